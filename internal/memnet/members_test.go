package memnet

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// fake is a transport that only records.
type fake struct {
	packets chan packet
	streams chan net.Conn
}

type packet struct {
	text, addr string
	at         time.Time
}

func (f *fake) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return nil, 0, nil }
func (f *fake) PacketCh() <-chan *memberlist.Packet                 { return nil }
func (f *fake) StreamCh() <-chan net.Conn                           { return f.streams }
func (f *fake) Shutdown() error                                     { return nil }

func (f *fake) WriteTo(b []byte, addr string) (time.Time, error) {
	f.packets <- packet{string(b), addr, time.Now()}
	return time.Now(), nil
}

func (f *fake) DialTimeout(string, time.Duration) (net.Conn, error) {
	here, far := net.Pipe()
	f.streams <- far
	return here, nil
}

// inPool runs a test in fake time with beijing's transport; shanghai is at "s:1", beijing's other member at "b:2".
func inPool(t *testing.T, test func(t *testing.T, n *Network, f *fake, tr *Transport)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{Delay: there})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		n.Place("shanghai", "s:1")
		n.Place("beijing", "b:2")
		f := &fake{packets: make(chan packet, 2*maxPackets), streams: make(chan net.Conn, 1)}
		test(t, n, f, n.Transport("beijing", f))
	})
}

func TestPacketsAreDelayed(t *testing.T) {
	inPool(t, func(t *testing.T, n *Network, f *fake, tr *Transport) {
		start, buf := time.Now(), []byte("hello")
		tr.WriteTo(buf, "s:1")
		copy(buf, "XXXXX") // the caller may use its buffer again
		if p := <-f.packets; p.text != "hello" || p.addr != "s:1" || p.at.Sub(start) != there {
			t.Errorf("%+v after %v", p, p.at.Sub(start))
		}
		start = time.Now()
		tr.WriteTo([]byte("near"), "b:2")
		if p := <-f.packets; p.at != start {
			t.Errorf("within the region: after %v", p.at.Sub(start))
		}
	})
}

func TestPacketsAreLostInACut(t *testing.T) {
	for _, cut := range []Cut{Stall, Break} {
		inPool(t, func(t *testing.T, n *Network, f *fake, tr *Transport) {
			tr.WriteTo([]byte("under way"), "s:1")
			n.Cut("beijing", "shanghai", cut)
			tr.WriteTo([]byte("during"), "s:1")
			time.Sleep(time.Second)
			n.Cut("beijing", "shanghai", Open)
			tr.WriteTo([]byte("after"), "s:1")
			if p := <-f.packets; p.text != "after" || n.Dropped() != 2 {
				t.Errorf("%q came, %d were lost", p.text, n.Dropped())
			}
		})
	}
}

func TestPacketsAreBounded(t *testing.T) {
	inPool(t, func(t *testing.T, n *Network, f *fake, tr *Transport) {
		for range maxPackets + 10 {
			tr.WriteTo([]byte("x"), "s:1")
		}
		time.Sleep(time.Second)
		if len(f.packets) != maxPackets || n.Dropped() != 10 {
			t.Errorf("%d came, %d were lost", len(f.packets), n.Dropped())
		}
		tr.WriteTo([]byte("x"), "s:1")
		time.Sleep(time.Second)
		if len(f.packets) != maxPackets+1 {
			t.Error("what has arrived still counts as under way")
		}
	})
}

func TestStreamsCrossTheNetwork(t *testing.T) {
	inPool(t, func(t *testing.T, n *Network, f *fake, tr *Transport) {
		start := time.Now()
		c, err := tr.DialTimeout("s:1", time.Second)
		if err != nil || time.Since(start) != 2*there {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		start = time.Now()
		io.WriteString(c, "push")
		b := make([]byte, 4)
		if _, err := io.ReadFull(<-f.streams, b); err != nil || time.Since(start) != there {
			t.Errorf("%q, %v after %v", b, err, time.Since(start))
		}
		n.Cut("shanghai", "beijing", Stall)
		start = time.Now()
		if _, err := tr.DialTimeout("s:1", time.Second); err == nil || time.Since(start) != time.Second {
			t.Errorf("a dial over a cut link: %v after %v", err, time.Since(start))
		}
	})
}

// TestMemberlist joins two real members over the network.
func TestMemberlist(t *testing.T) {
	n, err := New(Config{Delay: 3 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	b, s := member(t, n, "beijing"), member(t, n, "shanghai")
	if joined, err := b.Join([]string{s.LocalNode().Address()}); joined != 1 {
		t.Fatalf("joined %d: %v", joined, err)
	}
	if len(b.Members()) != 2 || len(s.Members()) != 2 {
		t.Errorf("%d and %d members", len(b.Members()), len(s.Members()))
	}
	rtt, err := b.Ping("shanghai", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(s.LocalNode().Port)})
	if err != nil || rtt < 6*time.Millisecond {
		t.Errorf("ping took %v, %v; want at least the round trip", rtt, err)
	}
}

func member(t *testing.T, n *Network, name string) *memberlist.Memberlist {
	t.Helper()
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name, cfg.BindAddr, cfg.LogOutput = name, "127.0.0.1", io.Discard
	cfg.BindPort = inner.GetAutoBindPort()
	cfg.AdvertisePort = cfg.BindPort
	cfg.Transport = n.Transport(name, inner)
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Shutdown() })
	n.Place(name, m.LocalNode().Address())
	return m
}
