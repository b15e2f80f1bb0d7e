package wan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// mtu is the largest packet, in bytes.
const mtu = 1500

// forwarder carries packets between the TUN devices of regions. One goroutine, on a thread of its own, owns all of it: it
// sleeps in ppoll, whose time-outs are exact to some ten microseconds, where Go's timers are to a millisecond, and is scheduled before all others: a
// wire does not wait for a processor.
type forwarder struct {
	start   time.Time
	devices []int     // file descriptors, by region
	lanes   [][]*lane // [from][to]
	strange uint64    // packets that are for no region

	wake  int         // eventfd: there is something in steer, or it is to end
	steer chan func() // what others want done, by who owns all this
	ended chan struct{}
	spare [][]byte // buffers to use again
}

// newForwarder takes over the devices. Region i has the addresses 10.91.i+1.0/24.
func newForwarder(devices []int, seed uint64) (*forwarder, error) {
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	f := &forwarder{start: time.Now(), devices: devices, wake: wake, steer: make(chan func()), ended: make(chan struct{})}
	for from := range devices {
		f.lanes = append(f.lanes, nil)
		for to := range devices {
			f.lanes[from] = append(f.lanes[from], &lane{dice: rand.New(rand.NewPCG(seed, uint64(from*len(devices)+to)))})
		}
	}
	go f.run()
	return f, nil
}

// do has the owner run something, and waits for it. It returns false if the forwarder has ended.
func (f *forwarder) do(what func()) bool {
	done := make(chan struct{})
	one := [8]byte{1}
	select {
	case <-f.ended:
		return false
	default:
	}
	_, _ = unix.Write(f.wake, one[:]) // full: it will wake anyway
	select {
	case f.steer <- func() { what(); close(done) }:
		<-done
		return true
	case <-f.ended:
		return false
	}
}

// close ends it and the devices.
func (f *forwarder) close() {
	f.do(func() {
		for _, d := range f.devices {
			unix.Close(d)
		}
		f.devices = nil
	})
	<-f.ended
	unix.Close(f.wake)
}

func (f *forwarder) run() {
	runtime.LockOSThread() // and never unlocks it: the thread ends with it
	defer close(f.ended)
	// Where that is not permitted, Count.Late tells what comes of it.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
	var fds []unix.PollFd
	for _, d := range f.devices {
		fds = append(fds, unix.PollFd{Fd: int32(d), Events: unix.POLLIN})
	}
	fds = append(fds, unix.PollFd{Fd: int32(f.wake), Events: unix.POLLIN})
	for {
		var timeout *unix.Timespec
		if wait, some := f.deliver(); some {
			t := unix.NsecToTimespec(max(0, int64(wait)))
			timeout = &t
		}
		if _, err := unix.Ppoll(fds, timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for i := range f.devices {
			if fds[i].Revents != 0 {
				f.collect(i)
			}
		}
		if fds[len(fds)-1].Revents != 0 && !f.obey() {
			return
		}
	}
}

// obey does what was asked for; false if that was to end.
func (f *forwarder) obey() bool {
	var b [8]byte
	if _, err := unix.Read(f.wake, b[:]); err != nil {
		return true
	}
	for range binary.NativeEndian.Uint64(b[:]) { // so many have woken this, and each is about to say why
		what := <-f.steer
		what()
		if f.devices == nil {
			return false
		}
	}
	return true
}

// collectMost bounds what is read from one device before the others, and what is due, have their turn.
const collectMost = 64

// collect takes what a region has sent.
func (f *forwarder) collect(from int) {
	for range collectMost {
		b := f.buffer()
		n, err := unix.Read(f.devices[from], b)
		if err != nil || n <= 0 {
			f.spare = append(f.spare, b)
			return
		}
		to, ok := f.target(b[:n])
		if ok && gossip(b[:n]) {
			f.lanes[from][to].count.Gossip += uint64(n)
		}
		if !ok || f.lanes[from][to].put(time.Since(f.start), b[:n]) == 0 {
			f.spare = append(f.spare, b)
		}
	}
}

// target is the region that a packet is for.
func (f *forwarder) target(b []byte) (int, bool) {
	if len(b) >= 20 && b[0]>>4 == 4 && b[16] == 10 && b[17] == 91 {
		if to := int(b[18]) - 1; to >= 0 && to < len(f.devices) {
			return to, true
		}
	}
	f.strange++
	return 0, false
}

// gossip says whether an IPv4 packet is one of membership's.
func gossip(b []byte) bool {
	ports := int(b[0]&15) * 4
	if (b[9] != unix.IPPROTO_UDP && b[9] != unix.IPPROTO_TCP) || len(b) < ports+4 {
		return false
	}
	return binary.BigEndian.Uint16(b[ports:]) == clusterNumber || binary.BigEndian.Uint16(b[ports+2:]) == clusterNumber
}

// deliver hands over all that is due, and returns how long it is until the next.
func (f *forwarder) deliver() (wait time.Duration, some bool) {
	now := time.Since(f.start)
	for _, row := range f.lanes {
		for to, l := range row {
			for b, ok := l.take(now); ok; b, ok = l.take(now) {
				if _, err := unix.Write(f.devices[to], b); err != nil {
					l.count.Full++ // the device does not take it
				}
				if len(f.spare) < spareMost && cap(b) == mtu {
					f.spare = append(f.spare, b[:mtu])
				}
			}
			if len(l.queue) > 0 && (!some || l.queue[0].due-now < wait) {
				wait, some = l.queue[0].due-now, true
			}
		}
	}
	return wait, some
}

const spareMost = 4096

func (f *forwarder) buffer() []byte {
	if n := len(f.spare); n > 0 {
		b := f.spare[n-1]
		f.spare = f.spare[:n-1]
		return b[:mtu]
	}
	return make([]byte, mtu)
}

// openTun makes a TUN device in the network namespace of the calling thread.
func openTun(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("make a TUN device: %w", err)
	}
	return fd, nil
}
