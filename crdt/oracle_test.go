package crdt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The oracle is a deliberately dumb second implementation: it keeps every record and works out what a session shows
// from scratch, by the rules as the protocol words them.
type oracle struct{ recs, removals []record }

func (w *world) oracleOf(r *replica) oracle {
	var o oracle
	for _, from := range w.regions {
		o.recs = append(o.recs, from.feed[:r.seen[from.id]]...)
	}
	return o.left()
}

// left is what expiries leave of the records: no copy that they cover of an oid that they name, nor what was on it.
func (o oracle) left() (left oracle) {
	for _, rec := range o.recs {
		void := false
		for _, by := range o.recs {
			if by.op.Kind != KindExpire || rec.dot.F > by.op.Seen[rec.dot.ID] {
				continue
			}
			of := rec.op.Kind == KindRun || rec.op.Kind == KindEdit || rec.op.Kind == KindDel || rec.op.Kind == KindReact
			void = void || rec.op.OID != "" && slices.Contains(by.op.Gone, rec.op.OID) || of && slices.Contains(by.op.Gone, rec.op.Of) ||
				rec.op.Kind.IsAnswer() && slices.Contains(by.op.Runs, rec.op.Run)
		}
		if rec.op.Kind.Removes() { // that it was is what is forgotten, not what it did
			left.removals = append(left.removals, rec)
		}
		if !void {
			left.recs = append(left.recs, rec)
		}
	}
	return left
}

// gone returns the oids of which a copy is within what some removal had seen: of messages and questions only, up to a place, if
// it was a trim.
func (o oracle) gone() map[string]bool {
	gone := map[string]bool{}
	for _, by := range o.removals {
		for _, rec := range o.recs {
			entry := rec.op.Kind == KindMsg || rec.op.Kind == KindRun
			if rec.op.OID != "" && rec.dot.F <= by.op.Seen[rec.dot.ID] && (by.op.Kind != KindTrim || entry && rec.op.Seq <= by.op.Seq) {
				gone[rec.op.OID] = true
			}
		}
	}
	return gone
}

// standing returns the smallest copy of each oid that was not removed.
func (o oracle) standing() []record {
	gone := o.gone()
	return slices.DeleteFunc(o.smallest(), func(rec record) bool { return gone[rec.op.OID] })
}

// smallest returns the copy of each oid with the smallest place or, for ops without one, the smallest stamp.
func (o oracle) smallest() []record {
	best := map[string]record{}
	for _, rec := range o.recs {
		if rec.op.OID == "" {
			continue
		}
		old, ok := best[rec.op.OID]
		if !ok || smaller(rec, old) {
			best[rec.op.OID] = rec
		}
	}
	var all []record
	for _, rec := range best {
		all = append(all, rec)
	}
	return all
}

func smaller(a, b record) bool {
	if entry := a.op.lastSeq() > 0; entry != (b.op.lastSeq() > 0) {
		return entry
	}
	if a.op.Kind == KindMsg || a.op.Kind == KindRun {
		return cmp.Or(cmp.Compare(a.op.Seq, b.op.Seq), strings.Compare(string(a.dot.Origin), string(b.dot.Origin))) < 0
	}
	return hlc(a) < hlc(b)
}

func hlc(r record) string { return Version{r.op.Stamp, r.dot.ID}.String() }

// greatest returns the standing op with the greatest hlc among those that match.
func (o oracle) greatest(match func(*Op) bool) *Op {
	var top *record
	for _, rec := range o.standing() {
		if match(rec.op) && (top == nil || hlc(rec) > hlc(*top)) {
			top = &rec
		}
	}
	if top == nil {
		return nil
	}
	return top.op
}

// log renders the session's log: "seq at oid: text".
func (o oracle) log() []string {
	places := map[string]Place{}
	texts := map[string]string{}
	for _, rec := range o.standing() {
		if rec.op.Kind == KindMsg {
			places[rec.op.OID] = Place{rec.op.Seq, rec.dot.Origin}
			texts[rec.op.OID] = o.message(rec.op)
		}
	}
	gone := o.gone()
	for _, rec := range o.recs {
		for _, seed := range rec.op.slots() {
			if gone[seed.of] {
				continue
			}
			at := Place{seed.seq, rec.dot.Origin}
			if old, ok := places[seed.oid]; !ok || at.Compare(old) < 0 {
				places[seed.oid] = at
			}
			texts[seed.oid] = o.answer(seed.oid)
		}
	}
	return render(places, texts)
}

func render(places map[string]Place, texts map[string]string) []string {
	var lines []string
	for oid, p := range places {
		lines = append(lines, fmt.Sprintf("%06d %s %s: %s", p.Seq, p.At, oid, texts[oid]))
	}
	slices.Sort(lines)
	return lines
}

func (o oracle) message(op *Op) string {
	top := o.greatest(func(e *Op) bool { return (e.Kind == KindEdit || e.Kind == KindDel) && e.Of == op.OID })
	switch {
	case top == nil:
		return op.Text
	case top.Kind == KindDel:
		return "(deleted)"
	}
	return top.Text
}

// answer renders the greatest attempt: its pieces in order of offset, and how it ended.
func (o oracle) answer(run string) string {
	var last Attempt
	for _, rec := range o.recs {
		if rec.op.Run == run && rec.op.Kind.IsAnswer() && rec.op.Attempt.String() > last.String() {
			last = rec.op.Attempt
		}
	}
	var pieces []*Op
	state := RunQueued
	for _, rec := range o.recs {
		if rec.op.Run != run || !rec.op.Kind.IsAnswer() || rec.op.Attempt != last {
			continue
		}
		pieces = append(pieces, rec.op)
		state = max(state, rec.op.State, RunRunning)
	}
	slices.SortStableFunc(pieces, func(a, b *Op) int { return cmp.Compare(a.Off, b.Off) })
	var text strings.Builder
	for _, p := range pieces {
		if p.Kind == KindChunk {
			text.WriteString(p.Text)
		}
	}
	return fmt.Sprintf("%s %s %q", last, state, text.String())
}

func shownLog(st Store) []string {
	places, texts := map[string]Place{}, map[string]string{}
	log, _ := Page(st, 0, 1<<30)
	for _, e := range log {
		places[e.OID] = e.Place
		switch {
		case e.Run != nil:
			texts[e.OID] = fmt.Sprintf("%s %s %q", e.Run.Attempt, e.Run.State, *e.Run.Text)
		case e.Msg.Deleted:
			texts[e.OID] = "(deleted)"
		default:
			texts[e.OID] = e.Msg.Text
		}
	}
	return render(places, texts)
}

func TestSessionShowsWhatTheOracleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for _, r := range w.regions {
			o := w.oracleOf(r)
			if got, want := shownLog(r.st), o.log(); !slices.Equal(got, want) {
				t.Fatalf("%s shows\n%s\nwant\n%s", r.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			title := o.greatest(func(e *Op) bool { return e.Kind == KindSet && e.Key == "title" })
			if got := Map(r.st); (len(got) == 0) != (title == nil) || (title != nil && string(got[0].Value) != string(title.Value)) {
				t.Fatalf("%s: title is %v, want %v", r.name, got, title)
			}
		}
	})
}

// viewer is a client that knows the protocol only: entries by oid, map ops by key and hlc, pieces by offset.
type viewer struct {
	entries map[string]*Entry
	texts   map[string]string
	sets    map[string]string // key -> hlc of the value shown
	byOID   map[string]string // oid -> hlc
}

func newViewer() *viewer {
	return &viewer{map[string]*Entry{}, map[string]string{}, map[string]string{}, map[string]string{}}
}

func (v *viewer) show(items []Item) {
	for _, it := range items {
		switch {
		case it.Entry != nil:
			v.entries[it.Entry.OID] = it.Entry
			if it.Entry.Run != nil && it.Entry.Run.Text != nil {
				v.texts[it.Entry.OID] = *it.Entry.Run.Text
			}
		case it.Removal != nil: // whoever shows it asks for the session anew
		case it.Tok != nil:
			v.texts[it.Tok.Run] = v.texts[it.Tok.Run][:it.Tok.Off] + it.Tok.Text
		case it.Map.Kind == KindSet:
			v.set(it.Map)
		}
	}
}

// anew shows a session to one who may hold what is gone.
func (v *viewer) anew(st Store) {
	*v = *newViewer()
	v.show(Since(st, nil))
}

// again fails for a message that is sent although it is held as it stands. (Answers are sent whole on purpose.)
func (v *viewer) again(t *rapid.T, items []Item) {
	for _, it := range items {
		if e := it.Entry; e != nil && e.Msg != nil && v.entries[e.OID] != nil && v.entries[e.OID].Place == e.Place {
			t.Fatalf("%s is sent again though nothing changed", e.OID)
		}
	}
}

// set keeps per oid the smallest hlc and per key the greatest.
func (v *viewer) set(m *MapOp) {
	h := m.Version.String()
	if old, ok := v.byOID[m.OID]; ok && old < h {
		return
	} else if ok && v.sets[m.Key] == old {
		v.sets[m.Key] = h
	}
	v.byOID[m.OID] = h
	v.sets[m.Key] = max(v.sets[m.Key], h)
}

// TestSinceBringsExactlyWhatIsMissing: whoever was away, and takes Since what it had seen, shows what one who never
// left shows.
func TestSinceBringsExactlyWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 3)
		w.honest, w.expires = true, rapid.SampledFrom([]int{0, 4}).Draw(t, "expires")
		v, seen := newViewer(), Vector{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.step()
			if at := w.regions[rapid.IntRange(0, 5).Draw(t, "look")%3]; at.seen.Covers(seen) && rapid.Bool().Draw(t, "visit") {
				h := ReadHeader(at.st)
				if seen.Covers(h.Cut) {
					items := Since(at.st, seen)
					v.again(t, items)
					v.show(items)
				} else {
					v.anew(at.st)
				}
				seen.Merge(h.Seen)
			}
		}
		w.settle()
		st := w.regions[0].st
		if seen.Covers(ReadHeader(st).Cut) {
			v.show(Since(st, seen))
		} else {
			v.anew(st)
		}
		full := newViewer()
		full.show(Since(st, nil))
		if got, want := v.String(), full.String(); got != want {
			t.Fatalf("the traveller shows\n%s\nwant\n%s", got, want)
		}
		if got := Since(st, ReadHeader(st).Seen); len(got) != 0 {
			t.Fatalf("%d items for one who has seen all", len(got))
		}
	})
}

func (v *viewer) String() string {
	var lines []string
	for oid, e := range v.entries {
		lines = append(lines, fmt.Sprintf("%06d %s %s %q", e.Seq, e.At, oid, v.texts[oid]))
	}
	slices.Sort(lines)
	return strings.Join(append(lines, fmt.Sprint(v.sets)), "\n")
}

// TestLiveItemsEqualSince: who watches every item as it is applied shows what one who loads the session shows.
func TestLiveItemsEqualSince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 3)
		w.honest = true
		w.run()
		w.settle()
		live, st := newViewer(), NewMem()
		u := &replica{st: st, seen: Vector{}}
		for moved := true; moved; {
			moved = false
			for _, from := range w.regions {
				for u.seen[from.id] < uint64(len(from.feed)) {
					rec := from.feed[u.seen[from.id]]
					if !u.seen.Covers(rec.deps) {
						break
					}
					items := Apply(st, rec.op, rec.dot)
					live.show(items)
					if len(items) > 0 && items[0].Removal != nil {
						live.anew(st)
					}
					u.seen[from.id], moved = rec.dot.F, true
				}
			}
		}
		full := newViewer()
		full.show(Since(st, nil))
		if got, want := live.String(), full.String(); got != want {
			t.Fatalf("live\n%s\nloaded\n%s", got, want)
		}
	})
}
