package region

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

const (
	// manySessions says how many TestManySessions has; `make many` has a million.
	manySessions = "REGION_SESSIONS"
	// manyPart is set in the processes that it starts, to what they do.
	manyPart = "REGION_MANY"
	// each session has so many messages.
	manyMessages = 20
)

// TestManySessions fills a node with sessions in a process of its own, kills that without warning, and starts another one on the directory: it has
// all that was acknowledged. How much memory they took, and how long the second was not ready, is printed beside what is wanted.
func TestManySessions(t *testing.T) {
	dir, sessions := os.Getenv(manyPart), 500
	if v := os.Getenv(manySessions); v != "" {
		var err error
		if sessions, err = strconv.Atoi(v); err != nil || sessions < 1 {
			t.Fatalf("%s=%q: a number from 1 on is needed", manySessions, v)
		}
	}
	if dir != "" {
		many(t, dir, sessions)
		return
	}
	dir = t.TempDir()
	filled := manyProcess(t, dir, sessions)
	again := manyProcess(t, dir, sessions)
	want := fmt.Sprint(sessions * manyMessages)
	if filled["ops"] != want || again["ops"] != want {
		t.Errorf("%s ops are held by who acknowledged them, and %s after it was killed: want %s", filled["ops"], again["ops"], want)
	}
	t.Logf("%d sessions of %d messages of %d bytes: filled in %s, at most %s MiB resident; killed; ready again after %s (wanted: 5s), %s MiB resident "+
		"after a look at a thousand sessions (wanted: below 1024)", sessions, manyMessages, messageBytes, filled["took"], filled["peak"],
		again["ready"], again["peak"])
}

// manyProcess runs many in another process, kills it when it has said all, and returns what it said.
func manyProcess(t *testing.T, dir string, sessions int) map[string]string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestManySessions$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), manyPart+"="+dir, fmt.Sprintf("%s=%d", manySessions, sessions))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for in := bufio.NewScanner(out); said["end"] == "" && in.Scan(); {
		if k, v, ok := strings.Cut(in.Text(), "="); ok {
			said[k] = v
		}
	}
	if said["end"] == "" {
		rest, _ := io.ReadAll(out)
		t.Errorf("the process ended early: %v, %s", said, rest)
	}
	err = errors.Join(cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	return said
}

// many opens the node in a directory, fills it if it is empty, and says what that took. Then it waits to be killed.
func many(t *testing.T, dir string, sessions int) {
	start := time.Now()
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	go func() { t.Error(r.Run(context.Background())) }()
	<-r.Ready()
	fmt.Printf("ready=%s\n", time.Since(start).Round(time.Millisecond))
	if held(r) == 0 {
		fillSessions(t, r, sessions)
	}
	for i := range min(sessions, 1000) {
		name := fmt.Sprintf("alice/%d", i*(sessions/min(sessions, 1000)))
		if err := r.View(name, func(st crdt.Store) { crdt.Page(st, 0, 50) }); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("took=%s\nops=%d\npeak=%s\nend=1\n", time.Since(start).Round(time.Second), held(r), peak(t))
	select {}
}

// held is how many ops of this region the node has applied, of all its incarnations.
func held(r *Region) (ops uint64) {
	for p := range uint8(crdt.Partitions) {
		for _, f := range r.Cursors(p) {
			ops += f
		}
	}
	return ops
}

// fillSessions puts messages into the sessions in turn.
func fillSessions(t *testing.T, r *Region, sessions int) {
	done, text := make(chan struct{}, proposers), strings.Repeat("some words of a message, ", 11)[:messageBytes]
	r.Watch(func(evs []wire.Event) {
		for i := range evs {
			if evs[i].Tag != 0 {
				done <- struct{}{}
			}
		}
	})
	for n, got := 0, 0; got < sessions*manyMessages; got++ {
		for ; n < sessions*manyMessages && n-got < proposers; n++ {
			name := fmt.Sprintf("alice/%d", n%sessions)
			op := msg2(name, fmt.Sprintf("01J%020d", n))
			op.Text = text
			fail := func(err error) { t.Error(err); done <- struct{}{} }
			if err := r.Submit(&wire.Put{Session: name, Ops: []*crdt.Op{op}, Tag: uint64(n + 1), Fail: fail}); err != nil {
				t.Fatal(err)
			}
		}
		<-done
		if got%1_000_000 == 999_999 {
			fmt.Fprintf(os.Stderr, "%d million messages, %s MiB resident\n", (got+1)/1_000_000, peak(t))
		}
	}
}

// peak is the most memory that the process has had resident, in MiB.
func peak(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return fmt.Sprint(kib >> 10)
		}
	}
	t.Fatal("the kernel does not say how much memory the process has")
	return ""
}
