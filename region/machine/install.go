package machine

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// install takes in a part of a partition's state, as another region has it. What comes is kept apart until it is the state of one
// moment: the sessions that have changed while they came are asked for again, pass by pass, until all that have changed are one part,
// whose vector then is that of everything. Until then nothing has happened that anybody could see, so whatever ends the transfer, the
// loss of the other region included, leaves nothing behind that no feed has.
func (s *step) install(part *peerpb.Part, from string) error {
	if err := CheckPart(part); err != nil {
		return err
	}
	p := uint8(part.Partition)
	t, err := s.transfer(p, from)
	if err != nil {
		return err
	}
	switch {
	case t.Complete:
		return nil // it came twice
	case t.Epoch == 0: // it begins, and what it leaves out has to be here
		since, err := crdt.DecodeVector(part.Since)
		if err != nil || part.After != "" || !s.vector(p).Covers(since) {
			return fmt.Errorf("the transfer of partition %d from %s does not begin so: %w", p, from, wire.ErrGap)
		}
		t.Epoch, t.Since = s.index<<16|s.at, part.Since
	case part.After != t.After || !bytes.Equal(part.Since, t.Since):
		return fmt.Errorf("sessions of partition %d after %q, and the transfer has come to %q: %w", p, part.After, t.After, wire.ErrGap)
	case !covers(part.Vector, t.Vector):
		s.discard(p, from, t)
		return fmt.Errorf("region %s has lost some of partition %d while its state came: %w", from, p, wire.ErrGap)
	}
	for _, m := range part.Vector {
		if err := s.fits(p, m); err != nil {
			return err
		}
	}
	for _, ses := range part.Sessions {
		s.set(stageKey(p, from, t.Epoch, ses.Name), encodeMessage(ses))
	}
	t.take(part)
	s.set(installKey(p, from), encodeMessage(&t.Transfer))
	return nil
}

// take moves a transfer over a part.
func (t *transfer) take(part *peerpb.Part) {
	for _, ses := range part.Sessions {
		t.Sessions++
		for i, k := range ses.Keys {
			t.Bytes += uint64(len(k) + len(ses.Values[i]))
		}
	}
	t.Vector = part.Vector
	if part.After == "" {
		t.Least = part.Vector // the least, since vectors grow
	}
	switch {
	case !part.Last:
		t.After = part.Sessions[len(part.Sessions)-1].Name
	case part.After == "":
		t.Complete = true
	default:
		since := crdt.Vector{}
		for _, m := range t.Least {
			since[crdt.Origin(m.Origin).ID()] = m.F
		}
		t.After, t.Since, t.Passes = "", crdt.EncodeVector(since), t.Passes+1
	}
}

// covers reports whether a vector has all that another has.
func covers(v, o []*peerpb.Mark) bool {
	have := crdt.Vector{}
	for _, m := range v {
		have[crdt.Origin(m.Origin).ID()] = m.F
	}
	for _, m := range o {
		if have[crdt.Origin(m.Origin).ID()] < m.F {
			return false
		}
	}
	return true
}

// transfer reads how far a transfer has come; one that has not begun has no epoch.
func (s *step) transfer(p uint8, from string) (*transfer, error) {
	t := &transfer{}
	b := s.get(installKey(p, from))
	if b == nil {
		return t, nil
	}
	err := t.decode(b)
	s.fail(err)
	return t, err
}

// discard forgets a transfer, and what has come.
func (s *step) discard(p uint8, from string, t *transfer) {
	s.fail(s.own.Delete(installKey(p, from)))
	s.dropped = append(s.dropped, [2][]byte{stageKey(p, from, t.Epoch, ""), stageKey(p, from, t.Epoch+1, "")})
}

// mergeSome merges some sessions of a state that has come as a whole. The cursors stay where they are until all are, and then
// go as far as that state had come, all at once. What is numbered meanwhile depends on all of it.
func (s *step) mergeSome(p uint8, from string, bytes uint64) error {
	if p >= crdt.Partitions {
		return fmt.Errorf("%w: partition %d", wire.ErrPart, p)
	}
	t, err := s.transfer(p, from)
	if err != nil || !t.Complete {
		return err
	}
	s.dependOn(p, t.Vector)
	for size := uint64(0); size < max(bytes, 1); {
		ses, n := s.staged(p, from, t.Epoch)
		if ses == nil {
			s.fail(s.own.Delete(partitionKey(spaceBeyond, p)))
			s.discard(p, from, t)
			return s.jump(p, t.Vector)
		}
		s.merge(ses)
		t.Merged++
		size += n
	}
	s.set(installKey(p, from), encodeMessage(&t.Transfer))
	return nil
}

// staged takes the first session that waits to be merged, nil if there is none.
func (s *step) staged(p uint8, from string, epoch uint64) (ses *peerpb.Session, size uint64) {
	var at []byte
	lo, hi := stageKey(p, from, epoch, ""), stageKey(p, from, epoch+1, "")
	s.fail(s.own.Scan(lo, hi, false, func(k, v []byte) bool {
		at, ses, size = bytes.Clone(k), &peerpb.Session{}, uint64(len(v))
		s.fail(proto.Unmarshal(v, ses))
		return false
	}))
	if at != nil {
		s.fail(s.own.Delete(at))
	}
	return ses, size
}

// dependOn has all that is numbered from here on depend on a vector.
func (s *step) dependOn(p uint8, vector []*peerpb.Mark) {
	beyond := crdt.Vector{}
	for _, m := range vector {
		beyond[crdt.Origin(m.Origin).ID()] = m.F
	}
	s.set(partitionKey(spaceBeyond, p), crdt.EncodeVector(beyond))
}

// depends is what is numbered now depends on: the cursors, and what a state that is being merged holds beyond them.
func (s *step) depends(p uint8) crdt.Vector {
	v := s.vector(p)
	if b := s.get(partitionKey(spaceBeyond, p)); b != nil {
		beyond, err := crdt.DecodeVector(b)
		s.fail(err)
		beyond.Merge(v)
		return beyond
	}
	return v
}

// merge joins another region's copy of a session into the own one.
func (s *step) merge(ses *peerpb.Session) {
	src := crdt.NewMem()
	for i, k := range ses.Keys {
		src.Set(k, ses.Values[i])
	}
	st, p := s.session(ses.Name)
	if crdt.ReadHeader(st).Seen.Covers(crdt.ReadHeader(src).Seen) {
		return
	}
	before := attempts(st)
	crdt.Merge(st, src)
	s.stamp = max(s.stamp, crdt.ReadHeader(st).MaxStamp)
	s.events = append(s.events, wire.Event{Session: ses.Name, Merged: true})
	s.reopen(st, p, ses.Name)
	for _, run := range crdt.OpenRuns(st) {
		if was, ok := before[run]; s.self != "" && (!ok || was != attemptOf(st, run)) {
			s.revoke(ses.Name, run) // if it is our own, from before we lost something
		}
	}
	s.fail(st.err)
}

// attempt is how far an answer has come.
type attempt struct {
	crdt.Attempt
	length uint64
}

func attemptOf(st crdt.Store, run string) (a attempt) {
	if slot, ok := crdt.ReadSlot(st, run); ok {
		a = attempt{slot.Attempt, slot.Len}
	}
	return a
}

func attempts(st crdt.Store) map[string]attempt {
	all := map[string]attempt{}
	for _, run := range crdt.OpenRuns(st) {
		all[run] = attemptOf(st, run)
	}
	return all
}

// reopen lists a session's open answers anew.
func (s *step) reopen(st crdt.Store, p uint8, session string) {
	var gone [][]byte
	lo := openKey(p, session, "")
	s.fail(s.own.Scan(lo, upper(lo), false, func(k, _ []byte) bool {
		gone = append(gone, bytes.Clone(k))
		return true
	}))
	for _, k := range gone {
		s.fail(s.own.Delete(k))
	}
	for _, run := range crdt.OpenRuns(st) {
		s.set(openKey(p, session, run), nil)
	}
}

// jump moves cursors to where a transfer has brought the state. What is held of a feed below that has a gap behind it, and goes.
func (s *step) jump(p uint8, to []*peerpb.Mark) error {
	for _, m := range to {
		if err := s.fits(p, m); err != nil {
			return err
		}
	}
	var jumps []crdt.Dot
	for _, m := range to {
		o, pos := crdt.Origin(m.Origin), wire.Position{F: m.F, Hash: wire.Hash(m.Hash)}
		f := feed{o.ID(), p}
		if s.head(f, o).F >= pos.F {
			continue
		}
		if err := s.learn(f.id, o); err != nil {
			return err
		}
		s.heads[f], s.vector(p)[f.id] = &head{Position: pos, moved: true}, pos.F
		if _, closed := s.finalsOf(p)[f.id]; closed {
			s.end(f, pos.F) // what has come is merged already
		}
		s.drop(f, pos)
		jumps = append(jumps, crdt.Dot{Origin: o, ID: f.id, Partition: p, F: pos.F})
	}
	s.discardOthers(p)
	if len(jumps) > 0 {
		s.events = append(s.events, wire.Event{Jumps: jumps})
	}
	return nil
}

// discardOthers forgets the transfers of a partition that are not complete: who still needs one begins anew.
func (s *step) discardOthers(p uint8) {
	lo := partitionKey(spaceInstall, p)
	others := map[string]*transfer{}
	s.fail(s.own.Scan(lo, upper(lo), false, func(k, v []byte) bool {
		t := &transfer{}
		s.fail(t.decode(v))
		if !t.Complete {
			others[string(k[2:])] = t
		}
		return true
	}))
	for _, from := range slices.Sorted(maps.Keys(others)) {
		s.discard(p, from, others[from])
	}
}

// fits refuses a position that cannot be of the same feed as what is held here.
func (s *step) fits(p uint8, m *peerpb.Mark) error {
	o := crdt.Origin(m.Origin)
	if name, ok := s.m.names[o.ID()]; ok && name != o {
		return fmt.Errorf("origins %s and %s have one id: start the newer region with an empty --data", name, o)
	}
	f := feed{o.ID(), p}
	head := s.head(f, o)
	switch {
	case head.F < m.F && o == s.self:
		return fmt.Errorf("%s partition %d up to %d, and it ends here at %d: %w", o, p, m.F, head.F, wire.ErrBehind)
	case head.F < m.F:
		return nil
	}
	v := s.record(f, m.F)
	if len(v) >= len(m.Hash) && !bytes.Equal(v[:len(m.Hash)], m.Hash) {
		return fmt.Errorf("%s partition %d at %d: %w", o, p, m.F, wire.ErrFork)
	}
	return nil
}

// transfer is how far the transfer of a partition's state from one region has come.
type transfer struct{ peerpb.Transfer }

// encodeMessage returns the bytes of something that is kept. What they decode to matters, and no more.
func encodeMessage(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err)) // it is put together from what was checked
	}
	return b
}

func (t *transfer) decode(b []byte) error {
	if err := proto.Unmarshal(b, &t.Transfer); err != nil {
		return fmt.Errorf("read transfer: %w", err)
	}
	return nil
}

// Pull is what to ask another region for, to begin the transfer of a partition's state or to go on with it; nil: the state has come,
// and is being merged.
func (m *Machine) Pull(partition uint8, from string) (w *peerpb.Pull, resumed bool, err error) {
	w = &peerpb.Pull{Partition: uint32(partition), Since: crdt.EncodeVector(m.Cursors(partition))}
	t := transfer{}
	b, err := m.cfg.Store.Get(installKey(partition, from))
	if err == nil && b != nil {
		err = t.decode(b)
	}
	switch {
	case err != nil || t.Epoch == 0:
		return w, false, err
	case t.Complete:
		return nil, true, nil
	}
	w.After, w.Since = t.After, t.Since
	return w, true, nil
}

// Merge returns the command that goes on with merging a state that has come as a whole, about so many bytes of it; nil: there is
// none.
func (m *Machine) Merge(bytes uint64) (c *Command, err error) {
	all, err := m.Transfers()
	for _, t := range all {
		if t.Complete && (c == nil || t.Merged > 0) { // one after the other
			c = &Command{Kind: KindMerge, Into: t.Partition, From: t.From, Bytes: bytes}
		}
	}
	return c, err
}

// Transfer is how far a partition's state has come from another region.
type Transfer struct {
	Partition uint8  `json:"partition"`
	From      string `json:"from"`
	Passes    uint64 `json:"passes"`   // that have ended: a pass brings what has changed during the one before
	Sessions  uint64 `json:"sessions"` // that have come, some more than once
	Bytes     uint64 `json:"bytes"`
	Complete  bool   `json:"complete"` // all has come, and is being merged
	Merged    uint64 `json:"merged"`   // sessions
}

// Transfers returns those that are under way, or were cut short.
func (m *Machine) Transfers() (all []Transfer, err error) {
	var failed error
	err = m.cfg.Store.Scan([]byte{spaceInstall}, []byte{spaceInstall + 1}, false, func(k, v []byte) bool {
		t := transfer{}
		failed = errors.Join(failed, t.decode(v))
		all = append(all, Transfer{k[1], string(k[2:]), t.Passes, t.Sessions, t.Bytes, t.Complete, t.Merged})
		return true
	})
	return all, errors.Join(err, failed)
}
