package congestion

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// usable reports why this process cannot use a congestion control, by trying it.
func usable(name string) error {
	return trial(func(fd int) error { return set(fd, name) })
}

// ownName is the machine's own.
func ownName() (name string, err error) {
	err = trial(func(fd int) (err error) {
		name, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		return err
	})
	return name, err
}

func trial(do func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

func set(fd int, name string) error {
	err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("this machine has no %s: load its module (modprobe tcp_%[1]s), or take one that it has (sysctl net.ipv4.tcp_available_congestion_control)", name)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s is not allowed to this user: add it to those that are (sysctl net.ipv4.tcp_allowed_congestion_control)", name)
	case err != nil:
		return fmt.Errorf("use %s: %w", name, err)
	}
	return nil
}

// setName has a socket use a congestion control, at any time of its life.
func setName(c syscall.RawConn, name string) (err error) {
	if e := c.Control(func(fd uintptr) { err = set(int(fd), name) }); e != nil {
		return e
	}
	return err
}

// measure tells which congestion control a connection uses, and what it has sent. It fails when the connection is closed.
func measure(c syscall.RawConn) (name string, n counts, err error) {
	e := c.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil {
			return
		}
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = counts{info.Data_segs_out, info.Total_retrans, info.Dsack_dups}
		}
	})
	return name, n, errors.Join(e, err)
}
