package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/roamsync/roam/internal/memnet"
)

func TestReserve(t *testing.T) {
	const disk = 1000 << 30
	for s, want := range map[string]uint64{
		"0": 0, "1048576": 1 << 20, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "2%": 20 << 30, "0%": 0, "1TiB": 1 << 40, "7B": 7,
	} {
		got, err := parseReserve(s)
		if err != nil || got(disk) != want {
			t.Errorf("%q: %v, want %d", s, err, want)
		}
	}
	for _, s := range []string{"-1", "100%", "-1%", "5GB", "much", "%", "MiB", "NaN", "NaN%", "Inf", "1e30TiB", "1 GiB"} {
		if _, err := parseReserve(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	if got, err := parseReserve(""); got != nil || err != nil {
		t.Errorf("no reserve: %v", err)
	}
}

// TestReserveThatNoDiskHas: a reserve that is more than the disk is refused, since the node would never take a message.
func TestReserveThatNoDiskHas(t *testing.T) {
	net, err := memnet.New(memnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	w := &world{t: t, net: net}
	o := w.options("beijing", t.TempDir())
	o.DiskReserve = "1000000TiB"
	ring, err := newKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNode(o, ring, emulated(net, "beijing"), newLogger(t.Output(), "warn"))
	if err == nil {
		t.Fatal(errors.Join(errors.New("it was taken"), n.close()))
	}
	if !strings.Contains(err.Error(), "--disk-reserve 1000000TiB") {
		t.Error(err)
	}
}
