package app

import (
	"strings"
	"testing"

	"github.com/roamsync/roam/internal/congestion"
)

// TestPeerCongestion: what cannot be used is refused at the start, by the name of the flag.
func TestPeerCongestion(t *testing.T) {
	for name, want := range map[string]string{"": "", "reno": "", congestion.Auto: "", "carrier-pigeon": "--peer-congestion carrier-pigeon: this machine has no carrier-pigeon: "} {
		o := ServeOptions{PeerCongestion: name, ClientAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", ClusterAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0"}
		switch err := o.checkAddrs(); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", name, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
}

// TestStatusSaysTCP: an operator sees which congestion control is in use towards whom, and what is lost.
func TestStatusSaysTCP(t *testing.T) {
	var out strings.Builder
	s := status{TCP: []congestion.Way{{Region: "shanghai", Name: "bbr", Connections: 2, Lost: 0.0123}}}
	if s.printTCP(&out); !strings.Contains(out.String(), "shanghai\tbbr\t2\t1.23 %\n") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	s.TCP = nil
	if s.printTCP(&out); out.Len() != 0 {
		t.Errorf("of no connections: %q", out.String())
	}
}
