package app

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCongestion: both ends of a connection between nodes use what was asked for, and what the machine lacks is refused with what to do.
func TestCongestion(t *testing.T) {
	const name = congestion("reno") // which all kernels have, for all users
	if err := name.check(); err != nil {
		t.Fatal(err)
	}
	ln, err := name.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := name.dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, c := range []net.Conn{in, out} {
		if got := congestionOf(t, c); got != string(name) {
			t.Errorf("%s: %q", c.LocalAddr(), got)
		}
	}
	if err := congestion("carrier-pigeon").check(); err == nil || !strings.Contains(err.Error(), "--peer-congestion carrier-pigeon: ") {
		t.Errorf("one that no kernel has: %v", err)
	}
}

func congestionOf(t *testing.T, c net.Conn) (name string) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return name
}
