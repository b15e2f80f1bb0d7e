package salvage

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// site is a region in memory. Sites have clocks that never show the same.
type site struct {
	*machine.Machine
	t     *testing.T
	store *machine.Mem
	name  string
	index uint64
	turn  int64
	clock crdt.Clock
	took  int
	stop  int // Take fails from then on; 0: never
}

const (
	part    = 7
	started = 1_700_000_000 << 32 // an incarnation
)

var sessions = func() (all []string) {
	for i := 0; len(all) < 3; i++ {
		if name := fmt.Sprintf("u/%d", i); crdt.PartitionOf(name) == part {
			all = append(all, name)
		}
	}
	return all
}()

func newSite(t *testing.T, name string, turn int64) *site {
	s := &site{t: t, name: name, store: machine.NewMem(), turn: turn}
	s.open()
	s.do(&machine.Command{Kind: machine.KindRenew, Next: crdt.NewOrigin(name, started+uint64(turn))})
	return s
}

func (s *site) open() {
	m, err := machine.New(machine.Config{Region: s.name, Store: s.store})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Machine = m
}

// copy is the same disk, from here on another one's.
func (s *site) copy(turn int64) *site {
	c := &site{t: s.t, name: s.name, store: s.store.Clone(), index: s.index, turn: turn, clock: s.clock}
	c.open()
	return c
}

func (s *site) do(c *machine.Command) machine.Result {
	s.t.Helper()
	s.index++
	c.Stamp(&s.clock, time.UnixMilli(1_700_000_000_000+int64(s.index)*8+s.turn))
	res, err := s.Apply(s.index, machine.EncodeEntryOf(machine.FeatureLevel, [][]byte{c.Encode()}), false)
	if err != nil {
		s.t.Fatal(err)
	}
	return res[0]
}

func (s *site) put(op *crdt.Op) {
	s.t.Helper()
	one := *op // what is applied is changed
	s.do(&machine.Command{Kind: machine.KindPut, Session: op.Session, Ops: []*crdt.Op{&one}})
}

// report has a worker go on with an open answer.
func (s *site) report(r *rand.Rand) {
	open, _, err := s.Open()
	if err != nil {
		s.t.Fatal(err)
	}
	if len(open) == 0 {
		return
	}
	run := open[r.IntN(len(open))]
	op := &crdt.Op{Session: run.Session, Run: run.Run, Nonce: s.name}
	var slot *crdt.Slot
	if err := s.View(run.Session, func(st crdt.Store) { slot, _ = crdt.ReadSlot(st, run.Run) }); err != nil {
		s.t.Fatal(err)
	}
	switch {
	case slot.State == crdt.RunQueued:
		op.Kind, op.Model = crdt.KindBegin, "echo"
	case r.IntN(3) > 0:
		op.Kind, op.Off, op.Text = crdt.KindChunk, slot.Len, "piece "
	default:
		op.Kind, op.Off, op.State = crdt.KindDone, slot.Len, crdt.RunDone
	}
	s.do(&machine.Command{Kind: machine.KindAnswer, Ops: []*crdt.Op{op}})
}

// feed gives a site all that another one has, as far as causes allow.
func (s *site) feed(from *site) {
	s.t.Helper()
	for moved := true; moved; {
		moved = false
		for _, o := range from.Origins() {
			cursor := s.Cursors(part)[o.ID()]
			if o == s.Self() || cursor >= from.Cursors(part)[o.ID()] {
				continue
			}
			rs, err := from.Feed(o, part, cursor+1, 1<<20)
			if err != nil {
				s.t.Fatal(err)
			}
			res := s.do(&machine.Command{Kind: machine.KindIngest, Records: rs})
			if res.Err != nil {
				s.t.Fatal(res.Err)
			}
			moved = moved || res.Cursor > cursor
		}
	}
}

// Held implements Living.
func (s *site) Held(_ context.Context, p uint8, at []Mark) (all []Held, _ error) {
	for _, m := range at {
		h := Held{Cursor: s.Cursors(p)[m.Origin.ID()]}
		h.F = min(m.F, h.Cursor)
		if pos, ok := s.Position(m.Origin, p, h.F); ok {
			h.Hash = pos.Hash[:]
		}
		all = append(all, h)
	}
	return all, nil
}

// Erased implements Living.
func (s *site) Erased(_ context.Context, _ uint8, names []string) (map[string]crdt.Stamp, error) {
	all := map[string]crdt.Stamp{}
	for _, name := range names {
		if err := s.View(name, func(st crdt.Store) {
			if at := crdt.Forgotten(st, "erase."); at > 0 {
				all[name] = at
			}
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Expect implements Living.
func (s *site) Expect(_ context.Context, ends []wire.Final) error {
	return s.do(&machine.Command{Kind: machine.KindClose, Finals: ends}).Err
}

// Take implements Living.
func (s *site) Take(_ context.Context, rs wire.Records) (cursor, known uint64, err error) {
	if s.took++; s.stop > 0 && s.took >= s.stop {
		return 0, 0, context.Canceled
	}
	res := s.do(&machine.Command{Kind: machine.KindIngest, Records: rs})
	return res.Cursor, 0, res.Err
}

// ties reports whether two ops of one register have one stamp: then the origin's id decides, which is another one for what is numbered anew. That may be for
// concurrent ops only, of which either may win.
func (s *site) ties() bool {
	s.t.Helper()
	seen := map[string]string{}
	for _, o := range s.Origins() {
		rs, err := s.Feed(o, part, 1, 1<<20)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, b := range rs.Records {
			_, op, err := decode(b)
			if err != nil {
				s.t.Fatal(err)
			}
			at := fmt.Sprint(op.Session, op.Stamp)
			if was, ok := seen[at]; op.OID != "" && ok && was != op.OID {
				return true
			}
			seen[at] = op.OID
		}
	}
	return false
}

// shows is all that a site's sessions show, but for which incarnation of a region numbered it.
func (s *site) shows() string {
	s.t.Helper()
	var all strings.Builder
	for _, name := range sessions {
		if err := s.View(name, func(st crdt.Store) {
			crdt.Log(st, func(e *crdt.Entry) bool {
				what, err := json.Marshal([]any{e.Seq, e.At.Region(), e.OID, e.TS, e.Msg, e.Run})
				if err != nil {
					s.t.Fatal(err)
				}
				fmt.Fprintf(&all, "%s %s\n", name, what)
				return true
			})
			for _, m := range crdt.Map(st) {
				fmt.Fprintf(&all, "%s %s = %s by %s at %d\n", name, m.Key, m.Value, m.OID, m.Version.Stamp)
			}
			fmt.Fprintln(&all, name, crdt.Read(st))
		}); err != nil {
			s.t.Fatal(err)
		}
	}
	return all.String()
}
