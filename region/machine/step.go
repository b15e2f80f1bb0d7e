package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// step is the application of one Raft entry: a batch, and what will be published once it is committed. All of it is
// owned by the apply goroutine. Given equal state and entry, every node writes the same.
type step struct {
	m       *Machine
	own     *layer          // of all keys but those of sessions and feeds
	opened  []*sessionStore // of the sessions that were touched
	fresh   map[feed]*run
	fed     []feed // of fresh, in order
	cursors map[uint8]crdt.Vector
	heads   map[feed]*head
	deps    map[uint8]crdt.Vector // what the own feeds' last records depended on
	digests map[uint8]*uint64
	stamp   crdt.Stamp
	self    crdt.Origin
	selfID  crdt.OriginID
	events  []wire.Event
	results []Result
	dropped [][2][]byte // ranges of keys that go, of which the entry sets none
	lifted  []Floor     // of feeds
	index   uint64      // of the entry
	level   uint32      // likewise
	at      uint64      // of the command in it
	spans   spans       // of what is applied
	// replayed: this node has applied the entry before, in an earlier life.
	replayed bool
	shaped   Shape // what became of size and level; 0: nothing
	named    bool  // origins were learned or forgotten
	finals   map[uint8]crdt.Finals
	closed   uint64         // partitions in which something was closed, a bit each
	evicted  crdt.Evictions // nil: as before
	err      error          // of the disk: nothing of the step may be used
}

// feed names one origin's feed of a partition.
type feed struct {
	id crdt.OriginID
	p  uint8
}

// head is the end of a feed.
type head struct {
	wire.Position
	moved bool // by this step
}

// Result is what the proposer of a command is told.
type Result struct {
	Held   []crdt.Held // answer: what became of each report
	Cursor uint64      // ingest: the feed's, now
	Err    error
}

func (s *step) fail(err error) {
	if s.err == nil && err != nil {
		s.err = err
	}
}

// set changes a key, to a value that nobody changes any more.
func (s *step) set(k, v []byte) { s.own.Own(k, v) }

func (s *step) get(k []byte) []byte {
	v, err := s.own.Get(k)
	s.fail(err)
	return v
}

// vector returns the cursors of a partition, to be changed.
func (s *step) vector(p uint8) crdt.Vector {
	v, ok := s.cursors[p]
	if !ok {
		v = s.m.cursors[p].Load().Clone()
		s.cursors[p] = v
	}
	return v
}

func (s *step) digest(p uint8) *uint64 {
	d, ok := s.digests[p]
	if !ok {
		d = new(uint64)
		if v := s.get(partitionKey(spaceDigest, p)); v != nil {
			*d = binary.BigEndian.Uint64(v)
		}
		s.digests[p] = d
	}
	return d
}

func (s *step) session(name string) (*sessionStore, uint8) {
	p := crdt.PartitionOf(name)
	k := s.m.hot.of(name, p)
	if k.open == nil {
		k.open = s.m.idle.take(s.m)
		s.opened = append(s.opened, k.open)
		k.open.open(k, s.digest(p))
	}
	return k.open, p
}

// record is what is held of a feed at f, after its running hash; nil: it is not held.
func (s *step) record(f feed, at uint64) []byte {
	if added := s.fresh[f]; added != nil && at >= added.from {
		return added.records[at-added.from]
	}
	v, err := s.m.cfg.Store.Get(feedKey(f.p, f.id, at))
	s.fail(err)
	return v
}

// head returns the end of a feed as it is here.
func (s *step) head(f feed, origin crdt.Origin) *head {
	h := s.heads[f]
	if h != nil {
		return h
	}
	if v := s.get(cursorKey(f.p, f.id)); v != nil {
		h = &head{Position: decodePosition(v)}
	} else {
		h = &head{Position: wire.Position{Hash: wire.FeedStart(origin, f.p)}}
	}
	s.heads[f] = h
	return h
}

func encodePosition(p wire.Position) []byte {
	return append(binary.BigEndian.AppendUint64(nil, p.F), p.Hash[:]...)
}

func decodePosition(b []byte) wire.Position {
	return wire.Position{F: binary.BigEndian.Uint64(b), Hash: wire.Hash(b[8:24])}
}

// extend appends a record to a feed and moves its cursor.
func (s *step) extend(f feed, origin crdt.Origin, record []byte) uint64 {
	h := s.head(f, origin)
	var kept []byte
	h.F, h.moved = h.F+1, true
	kept, h.Hash = h.Hash.Chain(s.m.recent.room(len(h.Hash)+len(record)), record)
	added := s.fresh[f]
	if added == nil {
		added = &run{from: h.F}
		s.fresh[f] = added
	}
	added.records = append(added.records, kept)
	s.vector(f.p)[f.id] = h.F
	return h.F
}

// issue numbers a completed op under the own incarnation, appends it to the feed and applies it. Its stamp is the leader's, unless
// something that the leader could not know of when it gave it, as what is taken from a worker here, has come before with a greater one.
func (s *step) issue(st *sessionStore, p uint8, op *crdt.Op) wire.Change {
	op.Stamp = max(op.Stamp, s.stamp+1)
	id := s.selfID
	s.m.op = op.Append(s.m.op[:0])
	s.m.record = wire.Record{Deps: s.newDeps(p, id), Op: s.m.op}.Append(s.m.record[:0])
	f := s.extend(feed{id, p}, s.self, s.m.record)
	return s.apply(st, p, op, crdt.Dot{Origin: s.self, ID: id, Partition: p, F: f})
}

// newDeps returns what has grown of the other origins' cursors since the own feed's last record.
func (s *step) newDeps(p uint8, self crdt.OriginID) crdt.Vector {
	last, ok := s.deps[p]
	if !ok {
		var err error
		last, err = crdt.DecodeVector(s.get(partitionKey(spaceDeps, p)))
		s.fail(err)
		s.deps[p] = last
	}
	var grown crdt.Vector
	for id, f := range s.depends(p) {
		if id != self && f > last[id] {
			if grown == nil {
				grown = crdt.Vector{}
			}
			grown[id] = f
		}
	}
	if len(grown) > 0 {
		last.Merge(grown)
		s.set(partitionKey(spaceDeps, p), crdt.EncodeVector(last))
	}
	return grown
}

func (s *step) apply(st *sessionStore, p uint8, op *crdt.Op, dot crdt.Dot) wire.Change {
	if op.Trace != nil {
		s.applying(op, dot)
	}
	items := crdt.Apply(st, op, dot)
	s.fail(st.err)
	s.stamp = max(s.stamp, op.Stamp)
	for _, it := range items {
		if it.Removal != nil {
			s.dropOpen(p, op.Session, it.Removal.Runs)
		}
		if it.Entry == nil || it.Entry.Run == nil {
			continue
		}
		k := openKey(p, op.Session, it.Entry.OID)
		if it.Entry.Run.State.Closed() {
			s.fail(s.own.Delete(k))
		} else {
			s.set(k, nil)
		}
	}
	return wire.Change{Dot: dot, Op: op, Items: items}
}

// dropOpen takes answers that were removed from those that a leader has to bring.
func (s *step) dropOpen(p uint8, session string, runs []string) {
	for _, run := range runs {
		s.fail(s.own.Delete(openKey(p, session, run)))
	}
}

// run applies one command.
func (s *step) run(c *Command) {
	var r Result
	s.at++
	switch c.Kind {
	case KindPut:
		s.put(c)
	case KindAnswer:
		r.Held = s.answer(c)
	case KindIngest:
		r.Cursor, r.Err = s.ingest(&c.Records)
	case KindRenew:
		s.renew(c)
	case KindPeer:
		s.set(MetaKey(metaPeer+c.Peer), nil)
	case KindTrim:
		s.trim(c)
	case KindPurge:
		s.purge(c)
	case KindMark:
		s.mark(c)
	case KindExpire:
		s.expire(c)
	case KindShape:
		s.shape(&c.Shape)
	case KindFloor:
		s.lift(c.Floors)
	case KindInstall:
		r.Err = s.install(c.Part, c.From)
	case KindMerge:
		r.Err = s.mergeSome(c.Into, c.From, c.Bytes)
	case KindClose:
		r.Err = s.close(c.Finals)
	case KindEvict:
		s.evict(c.Peer, c.Eviction)
	case KindBorn:
		s.born()
	default:
		s.fail(fmt.Errorf("%w: command %d", errEntry, c.Kind))
	}
	s.results = append(s.results, r)
}

func (s *step) put(c *Command) {
	st, p := s.session(c.Session)
	ev := wire.Event{Session: c.Session}
	if c.Entry == s.m.cfg.Entry {
		ev.Tag = c.Tag
	}
	switch {
	case s.fenced():
		ev.Refused = wire.ErrEvicted
	case s.self == "":
		ev.Refused = wire.ErrUnavailable
	default:
		ev.Refused = crdt.Check(st, c.Ops, c.Floor)
	}
	for _, op := range c.Ops {
		if ev.Refused != nil {
			break
		}
		id, known := s.late(st, op)
		if !known {
			id, known = crdt.Issue(st, op, s.seen(op, c.Floor))
		}
		if !known {
			change := s.issue(st, p, op)
			ev.Changes = append(ev.Changes, change)
			if ev.Tag != 0 {
				ev.Placed = append(ev.Placed, placed(op, change.Dot))
			}
		} else if ev.Tag != 0 {
			ev.Stands = append(ev.Stands, crdt.Standing(st, op.OID)...)
			ev.Gone = ev.Gone || id.Removed
			ev.Placed = append(ev.Placed, stands(id, p, op.OID))
		}
	}
	s.fail(st.err)
	if ev.Tag != 0 || len(ev.Changes) > 0 {
		s.events = append(s.events, ev)
	}
}

// seen is what an op's client has seen elsewhere. Before ExpireLevel a read mark did not reach beyond what is here.
func (s *step) seen(op *crdt.Op, floor crdt.Floor) crdt.Floor {
	if op.Kind == crdt.KindRead && s.level < ExpireLevel {
		return crdt.Floor{}
	}
	return floor
}

// placed is where an op that was issued now stands.
func placed(op *crdt.Op, dot crdt.Dot) wire.Placed {
	return wire.Placed{OID: op.OID, Place: crdt.PlaceOf(op, dot), Version: crdt.Version{Stamp: op.Stamp, By: dot.ID}, Dot: dot}
}

// stands is where the copy of an op stands that was there before.
func stands(id crdt.Identity, p uint8, oid string) wire.Placed {
	return wire.Placed{
		OID: oid, Place: id.Place, Version: id.Version(),
		Dot: crdt.Dot{Origin: id.At, ID: id.By, Partition: p, F: id.F},
	}
}

func (s *step) answer(c *Command) []crdt.Held {
	held := make([]crdt.Held, len(c.Ops))
	for i, op := range c.Ops {
		st, p := s.session(op.Session)
		if s.self == "" {
			held[i].Verdict = crdt.Superseded
			continue
		}
		held[i] = crdt.IssueAnswer(st, op, s.m.cfg.Region)
		if held[i].Verdict == crdt.Accepted {
			change := s.issue(st, p, op)
			s.events = append(s.events, wire.Event{Session: op.Session, Changes: []wire.Change{change}})
		}
		s.fail(st.err)
	}
	if c.Position != "" {
		s.set(MetaKey(metaResults), []byte(c.Position))
	}
	return held
}

// ingest takes another origin's records: those that follow the cursor, hash to what was announced, and have their
// causes here. It returns the cursor reached.
func (s *step) ingest(rs *wire.Records) (uint64, error) {
	id := rs.Origin.ID()
	if err := s.learn(id, rs.Origin); err != nil {
		return 0, err
	}
	f := feed{id, rs.Partition}
	pos := s.head(f, rs.Origin).Position
	switch {
	case rs.Origin == s.self:
		return pos.F, fmt.Errorf("records of our own incarnation %s: %w", rs.Origin, wire.ErrFork)
	case rs.From > pos.F+1 || rs.From == 0:
		return pos.F, fmt.Errorf("%s partition %d: from %d, cursor %d: %w", rs.Origin, rs.Partition, rs.From, pos.F, wire.ErrGap)
	}
	fresh, ops, err := s.verify(rs, f, pos)
	if err != nil {
		return pos.F, err
	}
	for i, rec := range fresh {
		if !s.vector(rs.Partition).Covers(rec.Deps) {
			break // its causes are not here yet: it comes again
		}
		if !s.admits(f, pos.F+1) {
			break // the origin is closed: unless its end rises, it never comes
		}
		pos.F = s.extend(f, rs.Origin, rs.Records[len(rs.Records)-len(fresh)+i])
		st, p := s.session(ops[i].Session)
		change := s.apply(st, p, ops[i], crdt.Dot{Origin: rs.Origin, ID: id, Partition: p, F: pos.F})
		s.events = append(s.events, wire.Event{Session: ops[i].Session, Changes: []wire.Change{change}})
		if rs.Origin.Region() == s.m.cfg.Region && s.self != "" && len(change.Items) > 0 && ops[i].Kind.IsAnswer() {
			s.revoke(ops[i].Session, ops[i].Run) // our own, from before we lost something
		}
	}
	return pos.F, nil
}

// verify checks a run of records against what is held and against its own hash, and decodes those that are new.
func (s *step) verify(rs *wire.Records, f feed, pos wire.Position) ([]wire.Record, []*crdt.Op, error) {
	known := min(uint64(len(rs.Records)), pos.F+1-rs.From)
	held := s.floor(f).F + 1 // what is below can only be believed
	for i := min(known, max(held, rs.From)-rs.From); i < known; i++ {
		v := s.record(f, rs.From+i)
		if len(v) < len(wire.Hash{}) || !bytes.Equal(v[len(wire.Hash{}):], rs.Records[i]) {
			return nil, nil, fmt.Errorf("%s partition %d at %d: %w", rs.Origin, rs.Partition, rs.From+i, wire.ErrFork)
		}
	}
	hash := pos.Hash
	var fresh []wire.Record
	var ops []*crdt.Op
	for _, b := range rs.Records[known:] {
		rec, err := wire.DecodeRecord(b)
		if err != nil {
			return nil, nil, err
		}
		op, err := crdt.DecodeOp(rec.Op)
		if err != nil {
			return nil, nil, err
		}
		if crdt.PartitionOf(op.Session) != rs.Partition {
			return nil, nil, fmt.Errorf("session %q is not of partition %d: %w", op.Session, rs.Partition, wire.ErrRecord)
		}
		hash = hash.Next(b)
		fresh, ops = append(fresh, rec), append(ops, op)
	}
	if len(fresh) > 0 && hash != rs.Hash {
		return nil, nil, fmt.Errorf("%s partition %d: hash after %d: %w", rs.Origin, rs.Partition, rs.Last(), wire.ErrFork)
	}
	return fresh, ops, nil
}

// learn keeps an origin's name. Two names with one id cannot live together.
func (s *step) learn(id crdt.OriginID, name crdt.Origin) error {
	if old, ok := s.m.names[id]; ok {
		if old != name {
			return fmt.Errorf("origins %s and %s have one id: start the newer region with an empty --data", old, name)
		}
		return nil
	}
	s.m.names[id], s.named = name, true
	s.set(originKey(id), []byte(name))
	return nil
}

// forgetUnused drops the name of an incarnation that has numbered nothing, as far as is known here: a process that crashes
// again and again should leave no trail. If another region knows better, it brings the name back.
func (s *step) forgetUnused(o crdt.Origin) {
	id := s.m.id(o)
	for p := range uint8(crdt.Partitions) {
		if s.vector(p)[id] > 0 {
			return
		}
	}
	delete(s.m.names, id)
	s.named = true
	s.fail(s.own.Delete(originKey(id)))
}

// renew starts a new incarnation, if the one that it replaces is still current.
func (s *step) renew(c *Command) {
	if s.self != c.Lost || s.fenced() && (s.beyond() || s.evictions().Void(s.m.cfg.Region, c.Next.Incarnation())) {
		return // more may have been given up since it was proposed
	}
	if err := s.learn(c.Next.ID(), c.Next); err != nil {
		return // the proposer sees that nothing changed and draws another
	}
	s.forgetUnused(s.self)
	s.become(c.Next)
	s.comeBack(c.Next)
	s.revokeAll()
}

// become goes on under another incarnation, whose feeds begin; none: nothing is numbered until one begins.
func (s *step) become(next crdt.Origin) {
	s.self = next
	s.selfID = s.m.id(s.self)
	s.set(MetaKey(metaSelf), []byte(next))
	for p := range uint8(crdt.Partitions) {
		s.fail(s.own.Delete(partitionKey(spaceDeps, p)))
	}
	clear(s.deps)
}

// revokeAll takes every answer under way from its worker: see crdt.Revoke.
func (s *step) revokeAll() {
	var open []wire.OpenRun
	s.fail(s.own.Scan([]byte{spaceOpen}, []byte{spaceOpen + 1}, false, func(k, _ []byte) bool {
		session, run, _ := bytes.Cut(k[2:], []byte{0})
		open = append(open, wire.OpenRun{Session: string(session), Run: string(run)})
		return true
	}))
	for _, o := range open {
		s.revoke(o.Session, o.Run)
	}
}

func (s *step) revoke(session, run string) {
	st, p := s.session(session)
	if op := crdt.Revoke(st, session, run, s.m.cfg.Region, s.stamp+1); op != nil {
		s.events = append(s.events, wire.Event{Session: session, Changes: []wire.Change{s.issue(st, p, op)}})
	}
	s.fail(st.err)
}
