package gateway

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/roamsync/roam/wire"
)

// TestCloseReason: what closes a connection says why as far as a close frame holds, in whole characters.
func TestCloseReason(t *testing.T) {
	for _, c := range []struct{ why, want string }{
		{"", ""},
		{strings.Repeat("x", 123), strings.Repeat("x", 123)},
		{strings.Repeat("x", 124), strings.Repeat("x", 123)},
		{strings.Repeat("x", 122) + "北京", strings.Repeat("x", 122)},
		{strings.Repeat("北", 100), strings.Repeat("北", 41)},
		{"half \xe5\x8c", "half \ufffd"},
	} {
		if got := closeReason(c.why); got != c.want {
			t.Errorf("%q: %q", c.why, got)
		}
	}
}

// TestReasonsAreCut: an edge and a node with data close with the status that they mean, however much there is to say.
func TestReasonsAreCut(t *testing.T) {
	why := wire.Errorf(wire.Unauthorized, "token: x%s", strings.Repeat("北京", 100))
	c := &remote{socket: newSocket()}
	c.over(why, wire.StatusBadToken)
	if said := c.closing.Why; len(said) > 123 || !utf8.ValidString(said) {
		t.Errorf("an edge closes with %q", said)
	}
	d := newRig(t, Config{}).hello()
	d.c.end(why, wire.StatusBadToken)
	d.rig.settle()
	if d.closed != wire.StatusBadToken || len(d.reason) > 123 || !utf8.ValidString(d.reason) {
		t.Errorf("a node closes with %d, %q", d.closed, d.reason)
	}
}
