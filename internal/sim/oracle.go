package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

type (
	wireEvent  = wire.Event
	wireChange = wire.Change
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// record is an op as some region issued it.
type record struct {
	op *crdt.Op
	at crdt.Place // origin and, for entries, seq
	by crdt.OriginID
	f  uint64
}

// allRecords reads every feed of a region's group from its start, by session: all that was ever issued and is not lost.
func allRecords(n *node, bySession map[string][]record) error {
	for _, o := range n.m.Origins() {
		for p := range uint8(crdt.Partitions) {
			head := n.m.Cursors(p)[o.ID()]
			next := n.trimmed(o, p, func(op *crdt.Op, f uint64) {
				bySession[op.Session] = append(bySession[op.Session], record{op, crdt.Place{Seq: op.Seq, At: o}, o.ID(), f})
			})
			for f := next; f <= head; {
				rs, err := n.Feed(o, p, f, 1<<20)
				if err != nil || len(rs.Records) == 0 {
					return fmt.Errorf("feed %s/%d ends at %d, and its cursor is %d: %v", o, p, f-1, head, err)
				}
				for i, b := range rs.Records {
					rec, err := wire.DecodeRecord(b)
					if err != nil {
						return err
					}
					op, err := crdt.DecodeOp(rec.Op)
					if err != nil {
						return err
					}
					bySession[op.Session] = append(bySession[op.Session], record{op, crdt.Place{Seq: op.Seq, At: o}, o.ID(), f + uint64(i)})
				}
				f = rs.Last() + 1
			}
		}
	}
	return nil
}

// checkOracle works out from the feeds alone, as simply as can be, what every session has to show, and compares.
func (w *world) checkOracle(all map[string][]record) {
	for _, session := range sortedKeys(all) {
		want := expected(all[session])
		for _, g := range w.holding(session) {
			for _, n := range g.nodes {
				var got string
				_ = n.View(session, func(st crdt.Store) {
					got = shown(st)
					w.checkAnswers(n, session, st)
				})
				if got != want {
					w.violate("7 and 8 order and values", "%s shows of %s\n%s\nand its feeds say\n%s", n, session, got, want)
					return
				}
			}
		}
	}
}

// expected renders a session: messages in order with the text that decides, and the map.
func expected(recs []record) string {
	standing := left(recs)
	stand, gone := map[string]record{}, goneOf(recs, standing) // by oid: the copy that stands
	for _, r := range standing {
		if r.op.OID == "" || gone[r.op.OID] {
			continue
		}
		old, known := stand[r.op.OID]
		if !known || smaller(r, old) {
			stand[r.op.OID] = r
		}
	}
	var lines []string
	for _, oid := range sortedKeys(stand) {
		switch r := stand[oid]; r.op.Kind {
		case crdt.KindMsg:
			text := r.op.Text
			if top := greatest(stand, func(o *crdt.Op) bool {
				return (o.Kind == crdt.KindEdit || o.Kind == crdt.KindDel) && o.Of == oid
			}); top != nil {
				text = top.Text
				if top.Kind == crdt.KindDel {
					text = "(deleted)"
				}
			}
			lines = append(lines, fmt.Sprintf("%08d %s %s %q", r.at.Seq, r.at.At, oid, text))
		case crdt.KindSet:
			if top := greatest(stand, func(o *crdt.Op) bool { return o.Kind == crdt.KindSet && o.Key == r.op.Key }); top == r.op {
				lines = append(lines, fmt.Sprintf("key %s = %s", r.op.Key, r.op.Value))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// smaller: of two copies of one oid the one with the smaller place stands or, without a place, the smaller stamp.
func smaller(a, b record) bool {
	if a.op.Kind == crdt.KindMsg || a.op.Kind == crdt.KindRun {
		return cmp.Or(cmp.Compare(a.at.Seq, b.at.Seq), strings.Compare(string(a.at.At), string(b.at.At))) < 0
	}
	return hlc(a) < hlc(b)
}

func hlc(r record) string { return crdt.Version{Stamp: r.op.Stamp, By: r.by}.String() }

func greatest(of map[string]record, match func(*crdt.Op) bool) (top *crdt.Op) {
	best := ""
	for _, r := range of {
		if match(r.op) && hlc(r) > best {
			top, best = r.op, hlc(r)
		}
	}
	return top
}

// shown renders what a region shows, the same way.
func shown(st crdt.Store) string {
	var lines []string
	log, _ := crdt.Page(st, 0, 1<<30)
	for _, e := range log {
		if e.Msg == nil {
			continue
		}
		text := e.Msg.Text
		if e.Msg.Deleted {
			text = "(deleted)"
		}
		lines = append(lines, fmt.Sprintf("%08d %s %s %q", e.Place.Seq, e.Place.At, e.OID, text))
	}
	for _, m := range crdt.Map(st) {
		lines = append(lines, fmt.Sprintf("key %s = %s", m.Key, m.Value))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// checkAnswers: an answer that ended by itself is whole, and of one attempt.
func (w *world) checkAnswers(n *node, session string, st crdt.Store) {
	log, _ := crdt.Page(st, 0, 1<<30)
	for _, e := range log {
		if e.Run == nil || e.Run.State != crdt.RunDone || e.Run.Fin != "end" {
			continue
		}
		if why := wholeAnswer(*e.Run.Text); why != "" {
			w.violate("11 answers", "%s has %s of %s as %q: %s", n, e.OID, session, *e.Run.Text, why)
		}
	}
}
