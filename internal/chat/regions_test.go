package chat

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/app"
)

func TestMain(m *testing.M) {
	// memberlist does not wait for its probes when it shuts down; they end by their time-outs.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).triggerFunc"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPullTrigger"))
}

var proposal = regexp.MustCompile(`chat --url (\S+) `)

// runDev runs two regions until the test ends, and returns their URLs.
func runDev(t *testing.T) (urls []string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, says := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		o := app.DevOptions{Regions: []string{"beijing", "shanghai"}, Redis: "embedded", LogLevel: "error", WanDelay: time.Millisecond}
		err := app.Dev(ctx, o, says, t.Output())
		says.CloseWithError(io.EOF)
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		go func() { _, _ = io.Copy(io.Discard, out) }()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for lines := bufio.NewScanner(out); len(urls) < 2 && lines.Scan(); {
		if m := proposal.FindStringSubmatch(lines.Text()); m != nil {
			urls = append(urls, m[1])
		}
	}
	if len(urls) != 2 {
		t.Fatalf("regions at %q", urls)
	}
	return urls
}

func optionsFor(t *testing.T, url string) Options {
	return Options{Session: "trip", URL: []string{url}, Token: "dev:alice", Device: "test", StateDir: t.TempDir(), History: 20, Wait: time.Minute}
}

// tape keeps what is written, and can be waited on.
type tape struct {
	mu      sync.Mutex
	text    strings.Builder // guarded by mu
	changed chan struct{}
}

func newTape() *tape { return &tape{changed: make(chan struct{}, 1)} }

func (p *tape) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer nudge(p.changed)
	return p.text.Write(b)
}

func (p *tape) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// await waits until something was written.
func (p *tape) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !strings.Contains(p.String(), want) {
		select {
		case <-p.changed:
		case <-deadline.C:
			t.Fatalf("after a minute there is no %q in %q", want, p.String())
		}
	}
}

func TestLinesOfAScript(t *testing.T) {
	urls := runDev(t)
	for _, run := range []struct {
		in, out, err string
		fails        string
	}{
		{in: "hello\n\n/title trip\n/title\n", out: "echo: hello\n", err: "title: trip"},
		{in: "", out: "alice: hello\necho: hello\n"},
		{in: "/move shanghai\n//slashed\n/again", out: "echo: /slashed\necho: /slashed\n", err: "— moved beijing → shanghai ("},
		{in: "/cut\n/nope\nafter\n", out: "echo: after\n", err: "the connection was cut", fails: "commands that failed: 1"},
		{in: "/move nowhere\n/quit\nnever sent\n", err: `unknown region: "nowhere"; there are [`, fails: "commands that failed: 1"},
		{in: "/kill beijing\n/start beijing\n/help\n", err: "start REGION"},
		{in: "/kill nowhere\n", err: "no such region", fails: "commands that failed: 1"},
		{in: "/kill shanghai\n/kill beijing\n", err: "killed beijing"},
	} {
		o, out, errs := optionsFor(t, urls[0]), newTape(), newTape()
		err := Run(t.Context(), o, strings.NewReader(run.in), out, errs)
		if (run.fails == "") != (err == nil) || (err != nil && err.Error() != run.fails) {
			t.Errorf("%q: %v, want %q\n%s", run.in, err, run.fails, errs)
		}
		if got := out.String(); !strings.HasSuffix(got, run.out) || !strings.Contains(errs.String(), run.err) || strings.Contains(got, "never") {
			t.Errorf("%q: printed %q and %q, want %q and %q", run.in, got, errs, run.out, run.err)
		}
	}
}

// TestForgottenSession: a session that was deleted shows nothing any more, and nobody waits for answers in it.
func TestForgottenSession(t *testing.T) {
	urls := runDev(t)
	for i, in := range []string{"hello\n/again\n/forget\n", "", "anew\n"} {
		o, out, errs := optionsFor(t, urls[0]), newTape(), newTape()
		if err := Run(t.Context(), o, strings.NewReader(in), out, errs); err != nil {
			t.Errorf("%q: %v\n%s", in, err, errs)
		}
		if want := []string{"", "", "echo: anew\n"}[i]; i > 0 && out.String() != want { // of the first a part may be printed
			t.Errorf("%q: printed %q, want %q", in, out, want)
		}
	}
}

func TestLinesRefuse(t *testing.T) {
	urls := runDev(t)
	for want, change := range map[string]func(*Options){
		"forbidden":                    func(o *Options) { o.Session = "bob/trip" },
		"unauthorized":                 func(o *Options) { o.Token, o.Session = "nonsense", "alice/trip" },
		"--wait":                       func(o *Options) { o.URL, o.Wait = []string{"ws://127.0.0.1:1"}, time.Second },
		"--url \"http://x":             func(o *Options) { o.URL = []string{"http://x"} },
		"the token does not say whose": func(o *Options) { o.Token = "nonsense" },
		"not a session id":             func(o *Options) { o.Session = "a/b/c" },
		"--history -1":                 func(o *Options) { o.History = -1 },
		"--state-dir":                  func(o *Options) { o.StateDir = "" },
	} {
		o := optionsFor(t, urls[0])
		change(&o)
		if err := Run(t.Context(), o, strings.NewReader("hello\n"), newTape(), newTape()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestRegionDiesInMidAnswer: the region that answers is killed and started again; the script's user has every message
// and answer once and whole, and so has another device.
func TestRegionDiesInMidAnswer(t *testing.T) {
	urls := runDev(t)
	question := strings.TrimSpace(strings.Repeat("word ", 150))
	other, ended := watcher(t, urls[1])
	in, lines := io.Pipe()
	out, errs, done := newTape(), newTape(), make(chan error, 1)
	go func() { done <- Run(t.Context(), optionsFor(t, urls[0]), in, out, errs) }()
	errs.await(t, "connected to beijing")
	write := func(line string) {
		if _, err := io.WriteString(lines, line+"\n"); err != nil {
			t.Error(err)
		}
	}
	write(question)
	for st := range other.Watch(t.Context()) { // it is safe, and some of it is answered
		if len(st.Log) == 2 && st.Log[1].Text != "" {
			break
		}
	}
	write("/kill beijing")
	errs.await(t, "killed beijing")
	write("and this")
	errs.await(t, "moved beijing → shanghai")
	write("/start beijing")
	errs.await(t, "started beijing")
	lines.Close()
	if err := <-done; err != nil {
		t.Errorf("%v\n%s", err, errs)
	}
	want := map[string]int{"echo: " + question: 1, "echo: and this": 1}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		want[line]--
	}
	for line, n := range want {
		if n != 0 {
			t.Errorf("%d times too few: %q", n, line)
		}
	}
	for st := range other.Watch(t.Context()) {
		if len(st.Log) == 4 && st.Log[0].Text == question && closed(st) == 2 {
			break
		}
	}
	ended()
}

func closed(st client.State) (n int) {
	for _, e := range st.Log {
		if e.Kind == client.KindAnswer && e.Status == "done" && !e.Broken {
			n++
		}
	}
	return n
}

// watcher is another device of the user's.
func watcher(t *testing.T, url string) (s *client.Session, end func()) {
	t.Helper()
	c, err := client.New(client.Config{Regions: []client.Region{{URL: url}}, Device: "other",
		Token: func(context.Context) (string, error) { return "dev:alice", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if s, err = c.Session("alice/trip"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	once := sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(once)
	return s, once
}

func TestOutboxesOfTwoProcesses(t *testing.T) {
	o := optionsFor(t, "ws://127.0.0.1:1")
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	first, err := openOutbox(&o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := openOutbox(&o)
	if err != nil {
		t.Fatal(err)
	}
	if first.path == second.path || filepath.Dir(first.path) != o.StateDir {
		t.Errorf("both in %s", first.path)
	}
	for oid, b := range map[string]*outbox{"a": first, "b": second} {
		if err := b.Add(client.Item{Session: o.Session, OID: oid, Born: time.Now(), Op: []byte(`{"k":"msg","oid":"` + oid + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what the second left is taken over, once
		third, err := openOutbox(&o)
		if err != nil {
			t.Fatal(err)
		}
		items, err := third.Load()
		if err != nil || len(items) != 2 || third.path != first.path {
			t.Errorf("%s has %d items, %v", third.path, len(items), err)
		}
		if err := third.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var all []*outbox
	for range maxOutboxes {
		b, err := openOutbox(&o)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	if _, err := openOutbox(&o); err == nil || !strings.Contains(err.Error(), "--no-outbox") {
		t.Errorf("one too many: %v", err)
	}
	for _, b := range all {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTerminal types on a real terminal, and finds it as it was when the program has ended.
func TestTerminal(t *testing.T) {
	urls := runDev(t)
	other, _ := watcher(t, urls[0])
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	if err := pty.Setsize(theirs, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	shown, read := newTape(), make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(shown, ours) }()
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), optionsFor(t, urls[0]), theirs, theirs, os.Stderr) }()
	write := func(keys string) {
		if _, err := ours.WriteString(keys); err != nil {
			t.Error(err)
		}
	}
	// Of what is on the screen only changes are drawn, cell by cell; a title is written whole.
	shown.await(t, "]2;roam alice/trip · beijing")
	write("hello\r")
	for st := range other.Watch(t.Context()) {
		if closed(st) == 1 && st.Log[0].Text == "hello" {
			break
		}
	}
	write("/mov\tsh\t\r")
	shown.await(t, "]2;roam alice/trip · shanghai")
	write("/quit\r")
	if err := <-done; err != nil {
		t.Error(err)
	}
	after, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Errorf("the terminal was %+v and is %+v", *before, *after)
	}
	shown.await(t, "\x1b[?1049l") // what was written last is read a little later
	shown.await(t, "\x1b[?2004l")
	for on, off := range map[string]string{"\x1b[?1049h": "\x1b[?1049l", "\x1b[?2004h": "\x1b[?2004l", "\x1b[?25l": "\x1b[?25h"} {
		text := shown.String()
		if i := strings.LastIndex(text, on); i > strings.LastIndex(text, off) {
			t.Errorf("%q is not taken back", on)
		}
	}
	theirs.Close()
	ours.Close()
	<-read
}
