package machine

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// The kinds of commands by which what was removed is forgotten.
const (
	KindMark   Kind = iota + 25 // note what is gone of sessions by now
	KindExpire                  // forget what was gone at marks of long ago
)

// ExpireLevel is from which level on they may be proposed, and what is put on a removed message is not numbered any more.
const ExpireLevel = 5

const (
	// maxMarks bounds the marks of a session. They are made at least a marksIn-th of the time apart, so more are never needed.
	maxMarks = 10
	marksIn  = 8
	// maxExpired bounds the sessions of one command, and maxIDs about how many ids it forgets, since it holds up what is applied after it: for
	// 10 ms or so. The rest is forgotten when it is come to again.
	maxExpired, maxIDs = 16, 1024
)

// marks reads what is noted of a session, oldest first.
func marksOf(r Reader, p uint8, session string) (marks []crdt.Mark, err error) {
	b, err := r.Get(markKey(p, session))
	for len(b) > 0 && err == nil {
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: marks of session %q", errEntry, session)
		}
		var m crdt.Mark
		m, err = crdt.DecodeMark(v)
		marks, b = append(marks, m), b[n:]
	}
	return marks, err
}

func (s *step) setMarks(p uint8, session string, marks []crdt.Mark) {
	if len(marks) == 0 {
		s.fail(s.own.Delete(markKey(p, session)))
		return
	}
	var b []byte
	for _, m := range marks {
		b = protowire.AppendBytes(b, m.Encode())
	}
	s.set(markKey(p, session), b)
}

// mark notes what is gone of sessions by now. That is the region's own business, and in no digest.
func (s *step) mark(c *Command) {
	for _, op := range c.Ops {
		st, p := s.session(op.Session)
		marks, err := marksOf(s.own, p, op.Session)
		s.fail(err)
		if len(marks) < maxMarks && crdt.Expirable(st) {
			s.setMarks(p, op.Session, append(marks, crdt.MarkOf(st, op.TS)))
		}
		s.fail(st.err)
	}
}

// expire forgets what was gone of sessions at the last mark of before a time, if all regions have what makes it so.
func (s *step) expire(c *Command) {
	left := maxIDs
	for _, op := range c.Ops {
		st, p := s.session(op.Session)
		marks, err := marksOf(s.own, p, op.Session)
		s.fail(err)
		n := ripeMarks(marks, c.Before)
		if op.Kind != crdt.KindExpire || s.self == "" || n == 0 || left <= 0 {
			continue
		}
		if s.expireAt(st, p, op, marks[n-1], &left) {
			s.setMarks(p, op.Session, marks[n:])
		}
		s.fail(st.err)
	}
}

// expireAt issues expiries of what was gone at a mark, of about as many ids as are left, and reports whether that was all.
func (s *step) expireAt(st *sessionStore, p uint8, op *crdt.Op, m crdt.Mark, left *int) bool {
	for *left > 0 {
		next := *op
		more, ok := crdt.IssueExpire(st, &next, m)
		if !ok {
			return false
		}
		*left -= len(next.Gone) + len(next.Runs)
		change := s.issue(st, p, &next)
		s.events = append(s.events, wire.Event{Session: op.Session, Changes: []wire.Change{change}})
		if !more {
			return true
		}
	}
	return false
}

// ripeMarks counts the marks that are of before a time.
func ripeMarks(marks []crdt.Mark, before int64) int {
	n := slices.IndexFunc(marks, func(m crdt.Mark) bool { return m.At > before })
	if n < 0 {
		return len(marks)
	}
	return n
}

// late is what stands for an op on a message that was removed: it is not numbered, as soon as all nodes of the region see to that.
func (s *step) late(st *sessionStore, op *crdt.Op) (crdt.Identity, bool) {
	if s.level < ExpireLevel {
		return crdt.Identity{}, false
	}
	return crdt.Late(st, op)
}

// Gone looks for sessions of which something is to be forgotten: round and round, as Idle does. It has one owner.
type Gone struct{ rounds }

// Look goes on through the sessions of some partitions, a bit each, and returns the commands for those of which something was removed: to note
// what is gone by now, and to forget what was so for the time ttl. home says whose business a session is, and stable what all regions have of
// a partition, if that is known.
func (g *Gone) Look(m *Machine, partitions uint64, now time.Time, ttl time.Duration, home func(session string) bool,
	stable func(p uint8) (crdt.Vector, bool)) (mark, expire *Command, err error) {
	mark, expire = &Command{Kind: KindMark}, &Command{Kind: KindExpire, Before: now.Add(-ttl).UnixMilli()}
	snap := m.cfg.Store.Snapshot()
	defer snap.Close()
	err = g.look(snap, partitions, func(session string, p uint8, st *sessionStore) (bool, error) {
		h := crdt.ReadHeader(st)
		if len(h.Cut) == 0 || !home(session) { // nothing was ever removed, as of most
			return true, st.err
		}
		marks, err := marksOf(snap, p, session)
		if err != nil {
			return false, err
		}
		some := crdt.Expirable(st)
		if last := len(marks) - 1; some && (last < 0 || last+1 < maxMarks && now.UnixMilli()-marks[last].At >= (ttl/marksIn).Milliseconds() &&
			!marks[last].Seen.Covers(h.Seen)) {
			mark.Ops = append(mark.Ops, &crdt.Op{Kind: crdt.KindExpire, Session: session})
		}
		if ripeMarks(marks, expire.Before) > 0 {
			if base, ok := stable(p); ok {
				expire.Ops = append(expire.Ops, &crdt.Op{Kind: crdt.KindExpire, Session: session, Base: within(base, h.Seen)})
			}
		}
		return len(expire.Ops) < maxExpired, st.err
	})
	if err != nil {
		return nil, nil, err
	}
	return some(mark), some(expire), nil
}

// some is a command, if it does something.
func some(c *Command) *Command {
	if len(c.Ops) == 0 {
		return nil
	}
	return c
}

// within is a vector, as far as it says something of the origins that another names.
func within(v, of crdt.Vector) crdt.Vector {
	w := crdt.Vector{}
	for id := range of {
		if f := v[id]; f > 0 {
			w[id] = f
		}
	}
	return w
}

// rounds goes round all sessions of some partitions, some at a time.
type rounds struct {
	partition uint8  // where it goes on
	after     string // the last session of that which was looked at
}

// look goes on, as long as each says so, to no session twice and to IdleLook at most.
func (i *rounds) look(snap Snapshot, partitions uint64, each func(session string, p uint8, st *sessionStore) (goOn bool, err error)) error {
	for left, parts := IdleLook, bits.OnesCount64(partitions); left > 0 && parts > 0; {
		session, err := i.next(snap, partitions)
		if err != nil {
			return err
		}
		if session == "" { // the end of a partition costs next to nothing, and there are few
			i.partition, i.after = (i.partition+1)%crdt.Partitions, ""
			if partitions&(1<<i.partition) != 0 {
				parts--
			}
			continue
		}
		left--
		i.after = session
		runtime.Gosched() // nobody waits for this, and it may take 10 ms
		st := &sessionStore{read: snap, prefix: sessionPrefix(i.partition, session)}
		goOn, err := each(session, i.partition, st)
		if err == nil {
			err = st.err
		}
		if err != nil || !goOn {
			return err
		}
	}
	return nil
}

// next is the session after the last one in its partition, "" if there is none, or the partition is not to be looked at.
func (i *rounds) next(r Reader, partitions uint64) (session string, err error) {
	if partitions&(1<<i.partition) == 0 {
		return "", nil
	}
	lo, hi := partitionKey(spaceSession, i.partition), upper(partitionKey(spaceSession, i.partition))
	if i.after != "" {
		lo = upper(sessionPrefix(i.partition, i.after))
	}
	err = r.Scan(lo, hi, false, func(k, _ []byte) bool {
		session, _ = SessionOf(k)
		return false
	})
	return session, err
}

// entryLevel is the level of an entry that was decoded: what its region was at, at least, when it was proposed.
func entryLevel(entry []byte) uint32 {
	level, _ := binary.Uvarint(entry)
	return uint32(level)
}
