package e2e

import (
	"net"
	"os"
	"strconv"
	"sync"
)

// Ports are handed out from below the range that the kernel takes source ports from.
const firstPort, lastPort = 10_000, 32_000

var ports = struct {
	sync.Mutex
	next int
}{next: firstPort + (os.Getpid()*97)%(lastPort-firstPort)}

// freePort returns a port that nobody has, for TCP and UDP, and that no other test is given.
func freePort() string {
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.next++; ports.next > lastPort {
			ports.next = firstPort
		}
		if addr := "127.0.0.1:" + strconv.Itoa(ports.next); free(addr) {
			return strconv.Itoa(ports.next)
		}
	}
}

func freeAddr() string { return "127.0.0.1:" + freePort() }

func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return u.Close() == nil
}
