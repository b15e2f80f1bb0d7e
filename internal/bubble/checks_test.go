package bubble

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/check"
)

// outcome is what is there when all is level: what regions were asked for, and what everybody has. The checks are functions
// of it alone, so that doctored ones show that they can fail.
type outcome struct {
	acked  []ack
	nodes  []nodeState
	copies []copyOf
}

// nodeState is a node as an operator sees it.
type nodeState struct {
	place      string
	partitions []partition
}

// copyOf is what somebody has of a session.
type copyOf struct {
	who, session string
	rows         []string
	part         bool        // it may lack the oldest
	view         *check.View // of nodes only
}

// shownRows of a session are compared with who may lack the oldest.
const shownRows = 40

// broken returns the promises that the outcome breaks.
func (o *outcome) broken() (all []string) {
	for _, c := range o.copies {
		if c.view != nil {
			all = append(all, o.checkAcked(c)...)
			all = append(all, o.checkAnswers(c)...)
		}
	}
	return append(append(all, o.checkDigests()...), o.checkSame()...)
}

// checkAcked: what was acknowledged is in every node, as it was put, and after what its user was shown then.
func (o *outcome) checkAcked(c copyOf) (all []string) {
	for _, a := range o.acked {
		if a.session != c.session {
			continue
		}
		switch e := c.view.Entries[a.oid]; {
		case a.kind == "msg" && e == nil:
			all = append(all, fmt.Sprintf("1 acknowledged, not lost: %s %q was acknowledged in %s, and %s does not have it", a.oid, a.text, a.region, c.who))
		case a.kind == "msg" && e.Shown != a.text:
			all = append(all, fmt.Sprintf("2 one oid, one op: %s was put as %q, and is %q at %s", a.oid, a.text, e.Shown, c.who))
		case a.kind == "msg" && e.Seq <= a.after:
			all = append(all, fmt.Sprintf("7 order: %s was put when its user was shown %d, and stands at %d at %s", a.oid, a.after, e.Seq, c.who))
		case a.kind == "set" && c.view.Values[a.key].OID == "":
			all = append(all, fmt.Sprintf("1 acknowledged, not lost: %s was set by %s in %s, and %s has no value", a.key, a.oid, a.region, c.who))
		}
	}
	return all
}

// checkAnswers: every question has one answer, which is what the echo says.
func (o *outcome) checkAnswers(c copyOf) (all []string) {
	for _, a := range o.acked {
		if a.session != c.session || !a.asks {
			continue
		}
		runs := c.view.Answers(a.oid)
		if len(runs) != 1 {
			all = append(all, fmt.Sprintf("11 one answer: %s has %d at %s", a.oid, len(runs), c.who))
			continue
		}
		if r := runs[0]; r.State != "done" || r.Shown != a.text {
			all = append(all, fmt.Sprintf("11 whole answers: that to %q is %s at %s: %q", a.text, r.State, c.who, r.Shown))
		}
	}
	return all
}

// checkDigests: equal cursors, equal state.
func (o *outcome) checkDigests() (all []string) {
	type of struct{ who, digest string }
	seen := map[string]of{}
	for _, n := range o.nodes {
		for p, part := range n.partitions {
			at := fmt.Sprintf("partition %d at %s", p, cursorsOf(part))
			if old, ok := seen[at]; ok && old.digest != part.Digest {
				all = append(all, fmt.Sprintf("5 equal state: %s is %s in %s and %s in %s", at, old.digest, old.who, part.Digest, n.place))
			}
			seen[at] = of{n.place, part.Digest}
		}
	}
	return all
}

// checkSame: all have the same of a session, in the same order.
func (o *outcome) checkSame() (all []string) {
	first := map[string]copyOf{}
	for _, c := range o.copies {
		if _, ok := first[c.session]; !ok && !c.part {
			first[c.session] = c
		}
	}
	for _, c := range o.copies {
		want := first[c.session]
		a, b := want.rows, c.rows
		if c.part {
			a, b = a[max(0, len(a)-shownRows):], b[max(0, len(b)-shownRows):]
		}
		if !slices.Equal(a, b) {
			all = append(all, fmt.Sprintf("6 and 7 what a client sees: %s has of %s\n%s\nand %s\n%s", want.who, c.session, strings.Join(a, "\n"), c.who, strings.Join(b, "\n")))
		}
	}
	return all
}

// viewRows renders a session as the protocol says it is, its map first.
func viewRows(v *check.View) (all []string) {
	for _, k := range slices.Sorted(maps.Keys(v.Values)) {
		if b := v.Values[k].V; len(b) > 0 && string(b) != "null" {
			all = append(all, fmt.Sprintf("key %s = %s", k, b))
		}
	}
	for _, e := range v.Log() {
		all = append(all, row(uint64(e.Seq), e.At, e.OID, e.Item.State, e.Shown))
	}
	return all
}

func stateRows(st client.State) (all []string) {
	for _, k := range slices.Sorted(maps.Keys(st.Map)) {
		all = append(all, fmt.Sprintf("key %s = %s", k, st.Map[k].JSON))
	}
	for _, e := range st.Log {
		all = append(all, row(e.Seq, e.At, e.OID, e.Status, e.Text))
	}
	return all
}

func row(seq uint64, at, oid, state, text string) string {
	return fmt.Sprintf("%08d %s %s %s %q", seq, at, oid, state, text)
}
