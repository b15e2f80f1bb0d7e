package wan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// space is the network namespace of a region, with a TUN device to all others.
type space struct {
	name   string
	file   *os.File
	device int         // the TUN's descriptor
	starts chan func() // processes to start, by a thread that is in the namespace as long as the rig lives
}

// spacePrefix is what the names of the rig's namespaces begin with; the id of its process follows.
const spacePrefix = "roamwan"

// unable says why the rig cannot have namespaces here, nil if it can.
func unable() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("the command ip is missing (Debian: apt-get install iproute2)")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("no TUN devices: %w", err)
	}
	name := fmt.Sprintf("%s%d-probe", spacePrefix, os.Getpid())
	s, err := newSpace(name, 1)
	if err != nil {
		return err
	}
	unix.Close(s.device)
	return s.close()
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// newSpace makes a namespace whose addresses are 10.91.number.0/24: those of its nodes on lo, that of its clients on the TUN.
func newSpace(name string, number int) (*space, error) {
	if err := ip("netns", "add", name); err != nil {
		return nil, err
	}
	s := &space{name: name, device: -1, starts: make(chan func())}
	if err := s.open(number); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *space) open(number int) (err error) {
	if s.file, err = os.Open(filepath.Join("/run/netns", s.name)); err != nil {
		return err
	}
	go s.launch()
	if err := s.inside(func() (err error) { s.device, err = openTun("wan0"); return err }); err != nil {
		return err
	}
	steps := [][]string{
		{"link", "set", "lo", "up"}, {"addr", "add", clientHost(number) + "/32", "dev", "wan0"},
		{"link", "set", "wan0", "mtu", strconv.Itoa(mtu), "up"},
		{"route", "add", "10.91.0.0/16", "dev", "wan0", "src", clientHost(number)},
	}
	for n := range maxNodes {
		steps = append(steps, []string{"addr", "add", nodeHost(number, n+1) + "/32", "dev", "lo"})
	}
	for _, step := range steps {
		if err := ip(append([]string{"-n", s.name}, step...)...); err != nil {
			return err
		}
	}
	return nil
}

func clientHost(region int) string     { return fmt.Sprintf("10.91.%d.200", region) }
func nodeHost(region, node int) string { return fmt.Sprintf("10.91.%d.%d", region, node) }

// inside runs something on a thread that is in the namespace meanwhile.
func (s *space) inside(what func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // a thread that does not come home ends with this goroutine
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", s.name, err)
			return
		}
		err = what()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// launch starts processes until the rig ends: the kernel ends them when the thread that started them does, so that nothing is left
// behind even if the rig is killed.
func (s *space) launch() {
	runtime.LockOSThread()
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		for range s.starts {
		}
		return
	}
	for start := range s.starts {
		start()
	}
}

// start is cmd.Start in the namespace.
func (s *space) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	s.starts <- func() { done <- cmd.Start() }
	return <-done
}

func (s *space) dial(ctx context.Context, addr string) (c net.Conn, err error) {
	err = s.inside(func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
		return err
	})
	return c, err
}

// close removes the namespace. Its processes have ended by then.
func (s *space) close() error {
	if s.file != nil {
		s.file.Close()
		close(s.starts)
	}
	return ip("netns", "del", s.name)
}

// sweep removes what is left of rigs that were killed: processes in their namespaces, the namespaces, and directories.
func sweep() (removed []string, err error) {
	spaces, _ := filepath.Glob(filepath.Join("/run/netns", spacePrefix+"*"))
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, path := range append(spaces, dirs...) {
		name := filepath.Base(path)
		number, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(name, spacePrefix), dirPrefix), "-")
		owner, e := strconv.Atoi(number)
		if e != nil || alive(owner) {
			continue
		}
		removed = append(removed, name)
		if strings.HasPrefix(name, dirPrefix) {
			err = errors.Join(err, os.RemoveAll(path))
			continue
		}
		out, _ := exec.Command("ip", "netns", "pids", name).Output()
		for _, field := range strings.Fields(string(out)) {
			if pid, e := strconv.Atoi(field); e == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		err = errors.Join(err, ip("netns", "del", name))
	}
	return removed, err
}

// alive says whether a process runs: one that has ended and that nobody has asked about has no command line any more.
func alive(pid int) bool {
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(words) > 0
}
