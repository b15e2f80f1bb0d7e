package crdt

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// world is a handful of regions that share one session: each issues ops, and takes the others' in causal order.
type world struct {
	t       *rapid.T
	regions []*replica
	traces  byte // drawn so far
	honest  bool // no client puts again what was forgotten
	expires int  // more expiries are drawn, in this many acts of 16
}

type replica struct {
	name   string
	origin Origin
	id     OriginID
	st     *Mem
	clock  Clock
	seen   Vector
	feed   []record // what it issued
	marks  []Mark
	rows   []Vector // what all regions had seen, as it heard last
	now    time.Time
}

type record struct {
	op   *Op
	dot  Dot
	deps Vector // what the issuer had seen before
}

func newWorld(t *rapid.T, n int) *world {
	w := &world{t: t}
	for i := range n {
		name := string(rune('a' + i))
		o := NewOrigin(name, uint64(i+1))
		w.regions = append(w.regions, &replica{
			name: name, origin: o, id: o.ID(), st: NewMem(), seen: Vector{},
			now: time.UnixMilli(1_700_000_000_000 + int64(i)*40),
		})
	}
	return w
}

func (r *replica) dot() Dot {
	return Dot{Origin: r.origin, ID: r.id, F: uint64(len(r.feed)) + 1}
}

// issue numbers an op and applies it at home.
func (r *replica) issue(op *Op) []Item {
	rec := record{op: op, dot: r.dot(), deps: r.seen.Clone()}
	items := Apply(r.st, op, rec.dot)
	r.feed = append(r.feed, rec)
	r.seen[r.id] = rec.dot.F
	return items
}

// put does what a region does with a client's op.
func (r *replica) put(op Op, floor Floor) error {
	if err := Check(r.st, []*Op{&op}, floor); err != nil {
		return err
	}
	if _, late := Late(r.st, &op); late {
		return nil
	}
	op.Stamp = r.clock.Next(r.now, floor.Stamp)
	op.TS = r.now.UnixMilli()
	if _, known := Issue(r.st, &op, floor); !known {
		r.issue(&op)
	}
	return nil
}

// report does what a region does with a worker's result.
func (r *replica) report(op Op) Held {
	op.Stamp = r.clock.Next(r.now, 0)
	op.TS = r.now.UnixMilli()
	held := IssueAnswer(r.st, &op, r.name)
	if held.Verdict == Accepted {
		r.issue(&op)
	}
	return held
}

// trim does what the region does with a session that is too long.
func (r *replica) trim(keep int) {
	op := Op{Kind: KindTrim, Stamp: r.clock.Next(r.now, 0), TS: r.now.UnixMilli()}
	if IssueTrim(r.st, &op, keep) {
		r.issue(&op)
	}
}

// purge does what the region does with a session that nobody has used for long, as if this one were.
func (r *replica) purge() bool {
	const never = 1 << 60
	seen, idle := Idle(r.st, never)
	op := Op{Kind: KindPurge, Seen: seen, Stamp: r.clock.Next(r.now, 0), TS: r.now.UnixMilli()}
	if idle = idle && IssuePurge(r.st, &op, never); idle {
		r.issue(&op)
	}
	return idle
}

// expire does what the region does that sees to a session: it marks it, hears what the regions have, and once it has what they had then,
// forgets what was gone at the mark.
func (w *world) expire(r *replica) {
	draw := rapid.IntRange(0, 5).Draw(w.t, "expire")
	if draw == 0 || len(r.marks) == 0 {
		r.marks = append(r.marks, MarkOf(r.st, 0))
	}
	if draw == 1 || len(r.rows) == 0 {
		r.rows = nil
		for _, o := range w.regions {
			r.rows = append(r.rows, o.seen.Clone())
		}
	}
	if draw > 1 {
		for moved := true; moved && !r.hasAll(); {
			moved = false
			for _, from := range w.regions {
				moved = r != from && r.pull(from) || moved
			}
		}
		if len(r.marks) > 0 && len(r.rows) > 0 && r.hasAll() {
			r.expireAll(r.marks[0])
			r.marks, r.rows = r.marks[1:], nil
		}
	}
}

// forgotten reports whether any region has forgotten an op.
func (w *world) forgotten(oid string) bool {
	for _, r := range w.regions {
		for _, rec := range r.feed {
			if slices.Contains(rec.op.Gone, oid) {
				return true
			}
		}
	}
	return false
}

// hasAll reports whether it has all that regions had when it heard of that.
func (r *replica) hasAll() bool {
	for _, row := range r.rows {
		if !r.seen.Covers(row) {
			return false
		}
	}
	return true
}

// expireAll issues all that names what was gone at a mark.
func (r *replica) expireAll(m Mark) (n int) {
	for more := true; more; n++ {
		op := Op{Kind: KindExpire, Base: r.rows[0].Clone(), Stamp: r.clock.Next(r.now, 0), TS: r.now.UnixMilli()}
		for id, f := range op.Base {
			for _, row := range r.rows {
				f = min(f, row[id])
			}
			op.Base[id] = f
		}
		var ok bool
		if more, ok = IssueExpire(r.st, &op, m); !ok {
			return n
		}
		r.issue(&op)
	}
	return n
}

// pull takes the next record of another region's feed, if its causes are here.
func (r *replica) pull(from *replica) bool {
	have := r.seen[from.id]
	if have >= uint64(len(from.feed)) {
		return false
	}
	rec := from.feed[have]
	if !r.seen.Covers(rec.deps) {
		return false
	}
	op, err := DecodeOp(rec.op.Encode())
	if err != nil {
		panic(err)
	}
	r.clock.Observe(op.Stamp)
	Apply(r.st, op, rec.dot)
	r.seen[from.id] = rec.dot.F
	return true
}

// settle exchanges everything.
func (w *world) settle() {
	for moved := true; moved; {
		moved = false
		for _, r := range w.regions {
			for _, from := range w.regions {
				for r != from && r.pull(from) {
					moved = true
				}
			}
		}
	}
}

// step does one random thing.
func (w *world) step() {
	t := w.t
	r := rapid.SampledFrom(w.regions).Draw(t, "region")
	r.now = r.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
	switch act := rapid.IntRange(0, 15+w.expires).Draw(t, "act"); act {
	case 0:
		if rapid.IntRange(0, 3).Draw(t, "purge") == 0 {
			if r.purge() && holds(r.st) {
				t.Fatal("something is left of a session that was purged")
			}
			return
		}
		r.trim(rapid.IntRange(1, 4).Draw(t, "keep"))
	case 1, 2, 3, 4:
		if op := w.clientOp(r); !w.honest || !w.forgotten(op.OID) {
			_ = r.put(op, Floor{})
		}
	case 5, 6, 7:
		if op, ok := w.workerOp(r); ok {
			r.report(op)
		}
	default:
		if act > 15 {
			w.expire(r)
			return
		}
		for range rapid.IntRange(1, 4).Draw(t, "pulls") {
			r.pull(rapid.SampledFrom(w.regions).Draw(t, "from"))
		}
	}
}

// clientOp draws from so few ids that copies, conflicts and references meet all the time. An oid's first character
// says its kind and content, so that most copies agree.
func (w *world) clientOp(r *replica) Op {
	t := w.t
	n := rapid.IntRange(0, 5).Draw(t, "n")
	of := fmt.Sprintf("m%d", rapid.IntRange(0, 5).Draw(t, "of"))
	op := Op{User: "u", Device: r.name, Role: "user", Trace: w.trace()}
	switch rapid.IntRange(0, 15).Draw(t, "kind") {
	case 0:
		op.Kind, op.OID = KindForget, fmt.Sprintf("f%d", n)
	case 1, 2, 3, 4:
		op.Kind, op.OID, op.Text = KindMsg, fmt.Sprintf("m%d", n), fmt.Sprintf("text %d", n)
		if n%2 == 0 {
			op.Models = []string{"echo", ""}[:1+n%4/2]
		}
		if n == 4 {
			op.Busy = BusyInterrupt
		}
		if rapid.IntRange(0, 9).Draw(t, "conflict") == 0 {
			op.Text += "!"
			op.Models = nil
		}
	case 5, 6:
		op.Kind, op.OID, op.Of, op.Model = KindRun, "r"+of, of, "echo"
	case 7:
		op.Kind, op.OID = KindStop, fmt.Sprintf("s%d", n)
	case 8, 9:
		op.Kind, op.OID, op.Key, op.Value = KindSet, fmt.Sprintf("k%d", n), "title", []byte(fmt.Sprint(n))
	case 10, 11:
		op.Kind, op.OID, op.Of, op.Text = KindEdit, fmt.Sprintf("e%s%d", of, n), of, fmt.Sprintf("edit %d", n)
		if n%3 == 0 {
			op.Kind, op.Text = KindDel, ""
		}
	case 12, 13:
		op.Kind, op.OID, op.Of, op.Key, op.On = KindReact, fmt.Sprintf("x%s%d", of, n), of, "+1", n%2 == 0
	default:
		op.Kind, op.OID, op.ReadSeq = KindRead, fmt.Sprintf("q%d", n), uint64(n)
	}
	return op
}

// trace draws whether an op is watched. It is another for each copy, as it is for retries.
func (w *world) trace() *Trace {
	if !rapid.Bool().Draw(w.t, "traced") {
		return nil
	}
	w.traces++
	return &Trace{ID: [16]byte{15: w.traces}, Span: [8]byte{7: 1}, Flags: 1}
}

// workerOp draws a report on one of the region's answers.
func (w *world) workerOp(r *replica) (Op, bool) {
	t := w.t
	runs := OpenRuns(r.st)
	if len(runs) == 0 {
		return Op{}, false
	}
	run := rapid.SampledFrom(runs).Draw(t, "run")
	s, _ := ReadSlot(r.st, run)
	op := Op{Run: run, Nonce: s.Nonce, Trace: w.trace()}
	switch rapid.IntRange(0, 5).Draw(t, "report") {
	case 5:
		op = *s.TakeOver(r.st, "alice/trip")[0]
	case 0:
		op.Kind, op.Nonce, op.Model = KindBegin, fmt.Sprintf("%s%d", r.name, rapid.IntRange(0, 3).Draw(t, "nonce")), "echo"
	case 1:
		op.Kind, op.State, op.Fin, op.Off = KindDone, RunDone, "end", s.Len
		if s.State == RunQueued {
			op.Nonce = ""
		}
	default:
		back := min(s.Len, uint64(rapid.IntRange(0, 3).Draw(t, "back")))
		op.Kind, op.Off = KindChunk, s.Len-back
		op.Text = s.Text(r.st)[op.Off:] + rapid.StringMatching(`[a-zé]{0,4}`).Draw(t, "text")
	}
	return op, true
}

// union replays every record that any of the replicas has seen, in an order of its own, into an empty session.
func (w *world) union(rs ...*replica) *Mem {
	want := Vector{}
	for _, r := range rs {
		want.Merge(r.seen)
	}
	u := &replica{st: NewMem(), seen: Vector{}}
	for moved := true; moved; {
		moved = false
		for _, from := range slices.Backward(w.regions) {
			for u.seen[from.id] < want[from.id] && u.pull(from) {
				moved = true
			}
		}
	}
	return u.st
}
