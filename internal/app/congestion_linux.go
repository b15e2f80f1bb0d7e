package app

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// setCongestion has TCP connections share the network by the algorithm of that name.
func setCongestion(c syscall.RawConn, name string) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) }); e != nil {
		return e
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("--peer-congestion %s: this machine has none of that name; those that it has: sysctl net.ipv4.tcp_available_congestion_control", name)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("--peer-congestion %s: not allowed to this user; those that are: sysctl net.ipv4.tcp_allowed_congestion_control", name)
	case err != nil:
		return fmt.Errorf("--peer-congestion %s: %w", name, err)
	}
	return nil
}
