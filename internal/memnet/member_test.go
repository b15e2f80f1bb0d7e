package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// seat makes a member in memory, at an address of its own place.
func seat(t *testing.T, n *Network, place, address string) *memberlist.Memberlist {
	t.Helper()
	tr, err := n.Member(place, address)
	if err != nil {
		t.Fatal(err)
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name, cfg.LogOutput, cfg.Transport = place, io.Discard, tr
	cfg.PushPullInterval = time.Second
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Shutdown() })
	return m
}

// TestMembersInMemory: real memberlists meet in fake time, notice a cut that lasts, and meet again.
func TestMembersInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{Delay: there})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		b, s := seat(t, n, "beijing", "127.1.1.1:7946"), seat(t, n, "shanghai", "127.2.1.1:7946")
		if joined, err := b.Join([]string{"127.2.1.1:7946"}); joined != 1 {
			t.Fatal(err)
		}
		n.CutBoth("beijing", "shanghai", Stall)
		time.Sleep(time.Minute)
		if b.NumMembers() != 1 || s.NumMembers() != 1 {
			t.Errorf("in a cut: %d and %d members", b.NumMembers(), s.NumMembers())
		}
		n.CutBoth("beijing", "shanghai", Open)
		b.Join([]string{"127.2.1.1:7946"})
		time.Sleep(time.Minute)
		if b.NumMembers() != 2 || s.NumMembers() != 2 {
			t.Errorf("after it: %d and %d members", b.NumMembers(), s.NumMembers())
		}
		if err := errors.Join(b.Shutdown(), s.Shutdown()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // probes that are under way end by their time-outs
	})
}

// TestCloseIsLearnedOverTheLink: that the other side has closed is news that comes over the network, so a writer does not
// know it sooner than a reader.
func TestCloseIsLearnedOverTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{Delay: there})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		l, err := n.Listen("shanghai", "s:1")
		if err != nil {
			t.Fatal(err)
		}
		c, err := n.DialFunc("beijing")(context.Background(), "s:1")
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		n.Cut("shanghai", "beijing", Stall)
		far.Close()
		for range 3 {
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatalf("in a stall: %v", err)
			}
			time.Sleep(time.Minute)
		}
		n.Cut("shanghai", "beijing", Open)
		time.Sleep(there)
		if _, err := c.Write([]byte("hello")); err == nil {
			t.Error("after it: written to nobody")
		}
	})
}

// TestVanish: connections end on both sides, nobody listens, and the old member is not heard of; then the place is taken
// again.
func TestVanish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{Delay: there})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		old, err := n.Member("beijing", "127.1.1.1:1")
		if err != nil {
			t.Fatal(err)
		}
		other, err := n.Member("shanghai", "127.2.1.1:1")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := other.DialTimeout("127.1.1.1:1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		far := <-old.StreamCh()
		n.Vanish("beijing")
		for _, c := range []net.Conn{conn, far} {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a connection has survived")
			}
		}
		old.WriteTo([]byte("from the dead"), "127.2.1.1:1")
		if _, err := old.DialTimeout("127.2.1.1:1", time.Second); err == nil {
			t.Error("who is gone can dial")
		}
		if _, err := n.DialFunc("shanghai")(context.Background(), "127.1.1.1:1"); err == nil {
			t.Error("who is gone can be dialed")
		}
		again, err := n.Member("beijing", "127.1.1.1:1")
		if err != nil {
			t.Fatal(err)
		}
		old.Shutdown()
		again.WriteTo([]byte("new"), "127.2.1.1:1")
		if p := <-other.PacketCh(); string(p.Buf) != "new" || p.From.String() != "127.1.1.1:1" {
			t.Errorf("%q from %s", p.Buf, p.From)
		}
		again.Shutdown()
		other.Shutdown()
	})
}
