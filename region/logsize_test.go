package region

import (
	"fmt"
	"strings"
	"testing"
)

// TestLogIsCutBySize: a log of few large entries is cut, although Raft would wait for many.
func TestLogIsCutBySize(t *testing.T) {
	const entry, kept = 8 << 10, 8
	c := newCluster(t, 1, func(cfg *Config) { cfg.SnapshotBytes, cfg.TrailingBytes = 32*entry, kept*entry })
	n := c.node("n1")
	put := 0
	c.until("the log is cut", func() bool {
		op := msg2("alice/trip", fmt.Sprintf("m%d", put))
		op.Text = strings.Repeat("x", entry)
		n.put(t, "alice/trip", op)
		put++
		first, err := n.all()[0].log.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		return first > kept
	})
	if put < 16 {
		t.Errorf("it was cut after %d entries of %d bytes: far too early", put, entry)
	}
}

// TestLogKeepsWhatFits: what stays is bounded in entries and in bytes, and never nothing.
func TestLogKeepsWhatFits(t *testing.T) {
	for _, c := range []struct{ entries, bytes, want uint64 }{
		{0, 0, 1000},      // nothing is known of their size
		{10, 1000, 640},   // a hundred bytes each, 64,000 may stay
		{10, 10, 1000},    // small ones: their number bounds them
		{1, 1_000_000, 1}, // one is more than may stay
	} {
		var s logSize
		s.entries.Store(c.entries)
		s.bytes.Store(c.bytes)
		if got := s.keep(1000, 64_000); got != c.want {
			t.Errorf("%d entries of %d bytes in all: %d stay, want %d", c.entries, c.bytes, got, c.want)
		}
	}
}
