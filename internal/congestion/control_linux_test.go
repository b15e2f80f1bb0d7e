package congestion

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair are both ends of a connection that c makes: who has dialled is first.
func pair(t *testing.T, c *Control) (out, in net.Conn) {
	t.Helper()
	ln, err := c.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if out, err = c.Dial(t.Context(), ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if in, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(); in.Close() })
	return out, in
}

func nameOf(t *testing.T, c net.Conn) string {
	t.Helper()
	name, _, err := measure(c.(*conn).raw)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestNamed: both ends of a connection use what was asked for; what the machine lacks is refused with what to do.
func TestNamed(t *testing.T) {
	c, err := New(Config{Name: "reno"}) // which all kernels have, for all users
	if err != nil {
		t.Fatal(err)
	}
	out, in := pair(t, c)
	for _, end := range []net.Conn{out, in} {
		if got := nameOf(t, end); got != "reno" {
			t.Errorf("%s: %q", end.LocalAddr(), got)
		}
	}
	_, err = New(Config{Name: "carrier-pigeon"})
	if err == nil || !strings.Contains(err.Error(), "--peer-congestion carrier-pigeon: ") || !strings.Contains(err.Error(), "modprobe tcp_carrier-pigeon") {
		t.Errorf("one that no kernel has: %v", err)
	}
}

// TestOwn: without a name connections use what all others of the machine do.
func TestOwn(t *testing.T) {
	own, err := ownName()
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	out, in := pair(t, c)
	if a, b := nameOf(t, out), nameOf(t, in); a != own || b != own {
		t.Errorf("%q and %q, the machine's is %q", a, b, own)
	}
}

// lossyEnd has the end of a connection lose what it has not, and looks.
func lossyEnd(t *testing.T, c *Control, end net.Conn) {
	t.Helper()
	end.(*conn).loss = loss{level: most, lossy: true}
	c.look()
}

// TestSwitches: a live connection goes over to another congestion control at the end that loses, back when it loses no more, and carries all that is written meanwhile.
func TestSwitches(t *testing.T) {
	own, err := ownName()
	if err != nil {
		t.Fatal(err)
	}
	if own == "reno" {
		t.Fatal("this machine's own is reno: nothing to switch to that every user has")
	}
	var log bytes.Buffer
	c, err := New(Config{Region: func(string) string { return "shanghai" }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	c.choice = choice{"reno", own} // two that every user of this machine may use
	out, in := pair(t, c)
	say := func(what string) {
		t.Helper()
		if _, err := io.WriteString(out, what); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(what))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != what {
			t.Fatalf("%q came as %q: %v", what, got, err)
		}
	}
	say("before")
	lossyEnd(t, c, out)
	say("lossy")
	if a, b := nameOf(t, out), nameOf(t, in); a != own || b != "reno" {
		t.Fatalf("the end that loses uses %q, the other %q", a, b)
	}
	if want := "msg=\"a connection has another congestion control\" region=shanghai"; strings.Count(log.String(), want) != 1 {
		t.Errorf("the log says %q", log.String())
	}
	out.(*conn).loss.level = 0
	c.look()
	say("after")
	if got := nameOf(t, out); got != "reno" {
		t.Errorf("after it had lost nothing for long: %q", got)
	}
	if ways := c.Ways(); len(ways) != 1 || ways[0].Region != "shanghai" || ways[0].Name != "reno" || ways[0].Connections != 2 {
		t.Errorf("ways: %+v", ways)
	}
}

// TestStuck: a connection that cannot be switched stays as it is, and that is said once.
func TestStuck(t *testing.T) {
	var log bytes.Buffer
	c, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	c.choice = choice{"reno", "carrier-pigeon"}
	out, _ := pair(t, c)
	for range 3 {
		lossyEnd(t, c, out)
	}
	if got := nameOf(t, out); got != "reno" {
		t.Errorf("it uses %q", got)
	}
	if n := strings.Count(log.String(), "keeps its congestion control"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

// TestCounts: what a connection sends is counted, and a connection that is closed is not looked at any more.
func TestCounts(t *testing.T) {
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	out, in := pair(t, c)
	for i := range 20 {
		if _, err := fmt.Fprintln(out, i); err != nil {
			t.Fatal(err)
		}
	}
	c.look()
	if l := out.(*conn).loss; l.sent < 1 || l.lossy {
		t.Errorf("after 20 writes: %+v", l)
	}
	if l := in.(*conn).loss; l.sent != 0 {
		t.Errorf("the end that has sent nothing: %+v", l)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	own, _ := ownName()
	want := fmt.Sprintf("# HELP roam_peer_connections TCP connections with a region's nodes, by the congestion control of what is sent there.\n"+
		"# TYPE roam_peer_connections gauge\nroam_peer_connections{congestion=%q,region=\"127.0.0.1\"} 2\n", own)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "roam_peer_connections"); err != nil {
		t.Error(err)
	}
	out.Close()
	in.(*conn).TCPConn.Close() // behind the back of who looks
	c.look()
	if left := len(c.conns()); left != 0 {
		t.Errorf("%d connections are looked at after they were closed", left)
	}
}
