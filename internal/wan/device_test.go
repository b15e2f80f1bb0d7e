package wan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/check"
)

// pipe is a connection whose other end is the test's.
type pipe struct {
	in     chan string
	out    chan string
	closed chan struct{}
	got    func() // if set, is called when a message was read, before the SDK has it
}

func newPipe() *pipe {
	return &pipe{in: make(chan string, 16), out: make(chan string, 16), closed: make(chan struct{})}
}

func (p *pipe) Read(context.Context) ([]byte, error) {
	select {
	case b := <-p.in:
		if p.got != nil {
			p.got()
		}
		return []byte(b), nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Write(_ context.Context, b []byte) error {
	for line := range bytes.Lines(b) {
		p.out <- string(line)
	}
	return nil
}

func (p *pipe) Close(int, string) error { close(p.closed); return nil }

func message(oid string, seq int) string {
	return fmt.Sprintf(`{"k":"msg","oid":%q,"seq":%d,"at":"b","ts":1,"user":"u","device":"e","role":"user","text":"x"}`, oid, seq)
}

// TestTheCheckerTakesWhatTheSDKTakes: a message that is read in the moment in which the client leaves is not shown to anybody, and what is put
// next need not stand after it. That is so wherever the moment falls; and what was taken counts.
func TestTheCheckerTakesWhatTheSDKTakes(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken bool
		fault string
	}{
		{"left in the same moment", false, ""},
		{"left later", true, "was put on connection 2 after 94 was seen on connection 1, and stands at 94, by connection 2"},
	} {
		synctest.Test(t, func(t *testing.T) {
			first, second := newPipe(), newPipe()
			conns := make(chan *pipe, 2)
			conns <- first
			conns <- second
			d := &device{t: newTalk("u/x", "u", 1, time.Now()), home: "a", eye: check.NewDevice("u", "d")}
			sdk, err := client.New(client.Config{
				Regions: []client.Region{{Name: "a", URL: "ws://a/"}}, Device: "d",
				Token: func(context.Context) (string, error) { return "dev:u", nil },
				Dial:  func(context.Context, string) (client.Conn, error) { return newTap(d, <-conns), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := sdk.Session("u/x")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- sdk.Run(ctx) }()
			welcome := `{"t":"welcome","id":1,"conn":"c","user":"u","region":"a","node":"n","ping":25,"exp":0,"max":{},"regions":[]}`
			<-first.out // hello
			first.in <- welcome
			first.in <- `{"t":"snap","s":"u/x","cur":"c93","map":{},"read":{},"log":[` + message("m93", 93) + `],"more":true,"why":"new"}`
			synctest.Wait()
			if !c.taken {
				first.got = sdk.Cut
			}
			first.in <- `{"t":"delta","s":"u/x","cur":"c94","ops":[` + message("m94", 94) + `]}`
			synctest.Wait()
			sdk.Cut() // does nothing if it was done
			if n := len(s.State().Log); n != map[bool]int{false: 1, true: 2}[c.taken] {
				t.Errorf("%s: the user was shown %d messages", c.name, n)
			}
			<-second.out // hello
			second.in <- welcome
			second.in <- `{"t":"delta","s":"u/x","cur":"c93","ops":[]}`
			if _, err := s.Send("so", client.SendOptions{}); err != nil {
				t.Fatal(err)
			}
			var put struct {
				ID  int64
				Ops []struct{ OID string }
			}
			if line := <-second.out; json.Unmarshal([]byte(line), &put) != nil || len(put.Ops) != 1 {
				t.Fatalf("%s: not a put: %s", c.name, line)
			}
			second.in <- fmt.Sprintf(`{"t":"ok","id":%d,"s":"u/x","cur":"c95","at":[{"oid":%q,"seq":94,"at":"a"}],"regions":1,"safe":true}`, put.ID, put.Ops[0].OID)
			synctest.Wait()
			if got := strings.Join(d.faults(), "\n"); (got == "") != (c.fault == "") || !strings.Contains(got, c.fault) {
				t.Errorf("%s: %q, want %q", c.name, got, c.fault)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
