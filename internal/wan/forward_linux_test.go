package wan

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairOf is a device of the forwarder's and its far end, as a TUN is: a packet at a time.
func pairOf(t *testing.T) (device, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// packetTo is an IPv4 packet for a region.
func packetTo(region int, mark byte) []byte {
	b := make([]byte, 40)
	b[0], b[16], b[17], b[18], b[39] = 4<<4, 10, 91, byte(region+1), mark
	return b
}

func TestForwarderCarriesAndDelays(t *testing.T) {
	var devices, far []int
	for range 3 {
		d, f := pairOf(t)
		devices, far = append(devices, d), append(far, f)
	}
	f, err := newForwarder(devices, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	const delay = 30 * time.Millisecond
	f.do(func() { f.lanes[0][2].reshape(Shape{Delay: delay}) })
	begun := time.Now()
	for i := range 100 {
		for _, b := range [][]byte{packetTo(2, byte(i)), packetTo(1, byte(i)), packetTo(9, byte(i))} {
			if _, err := unix.Write(far[0], b); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := make([]byte, mtu)
	for i := range 100 {
		for _, to := range []int{1, 2} {
			n, err := unix.Read(far[to], b)
			if err != nil || n != 40 || b[39] != byte(i) {
				t.Fatalf("packet %d of region %d: %d bytes, mark %d, %v", i, to, n, b[39], err)
			}
		}
		if took := time.Since(begun); took < delay {
			t.Fatalf("packet %d was there after %s", i, took)
		}
	}
	f.do(func() {
		if c := f.lanes[0][2].count; c.Packets != 100 || c.Bytes != 4000 || f.strange != 100 {
			t.Errorf("%+v, %d strange", c, f.strange)
		}
	})
}

func TestForwarderIsSteeredByMany(t *testing.T) {
	d, _ := pairOf(t)
	f, err := newForwarder([]int{d}, 1)
	if err != nil {
		t.Fatal(err)
	}
	sum, done := 0, make(chan bool)
	for range 50 {
		go func() { done <- f.do(func() { sum++ }) }()
	}
	for range 50 {
		<-done
	}
	f.close()
	if sum != 50 || f.do(func() { sum++ }) {
		t.Errorf("%d of 50 were heard", sum)
	}
}
