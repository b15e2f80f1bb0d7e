package e2e

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// entry is an entry as a client holds it; text is a message's, or an answer's so far.
type entry struct {
	item
	text string
	// covered is how much of text came before the last cur. When the client comes back with that, again is set, and what is
	// beyond may come once more.
	covered int
	again   bool
}

// view is a session as a client holds it: what it has applied, and the faults it met while it did.
type view struct {
	s       string
	cur     string
	behind  bool
	opened  bool // a snap or a delta has come since the last open
	entries map[string]*entry
	values  map[string]value
	sets    map[string]map[string]item // by key and oid: the map ops behind values, as far as they are known
	told    map[string]string          // by oid: the stamp that the server named last
	last    map[string]item            // by oid: what the server said last of a place and an attempt
	own     map[string]item            // ops under way from this device, by oid
	faults  []string
	bytes   int                  // bytes of answers that came as tok
	came    map[string]time.Time // when an entry came first
}

func newView(s string) *view {
	return &view{s: s, entries: map[string]*entry{}, values: map[string]value{},
		sets: map[string]map[string]item{}, told: map[string]string{}, last: map[string]item{}, own: map[string]item{}, came: map[string]time.Time{}}
}

func (v *view) fault(format string, args ...any) {
	v.faults = append(v.faults, v.s+": "+fmt.Sprintf(format, args...))
}

// apply does what the protocol says a client does with a frame, and notes what a server must not do.
func (v *view) apply(f *frame) {
	switch f.T {
	case "snap":
		v.snap(f)
	case "delta":
		v.delta(f)
	case "tok":
		v.tok(f)
	case "ok":
		v.ok(f)
	}
	if f.Cur != "" {
		v.cur = f.Cur
		for _, e := range v.entries {
			e.covered = len(e.text)
		}
	}
	if f.Behind != nil {
		v.behind = *f.Behind
	}
}

// snap replaces what is held; what was held may not be gone unless the server says so.
func (v *view) snap(f *frame) {
	held, values := v.entries, v.values
	v.entries, v.values, v.sets, v.told = map[string]*entry{}, map[string]value{}, map[string]map[string]item{}, map[string]string{}
	for _, it := range f.Log {
		if _, twice := v.entries[it.OID]; twice {
			v.fault("a snap has %s twice", it.OID)
		}
		v.entries[it.OID] = held[it.OID]
		v.entry(it, true)
	}
	for k, val := range f.Map {
		v.values[k] = val
	}
	v.opened = true
	if f.More || f.Behind != nil && *f.Behind {
		return
	}
	for oid, e := range held {
		if v.entries[oid] == nil {
			v.fault("a snap (%s) lost %s %q", f.Why, oid, e.text)
		}
	}
	for k, val := range values {
		if v.values[k].HLC < val.HLC {
			v.fault("a snap (%s) went back at key %s", f.Why, k)
		}
	}
	if !slices.IsSortedFunc(f.Log, byPlace) {
		v.fault("a snap is not in order")
	}
}

func (v *view) delta(f *frame) {
	v.opened = true
	keys := map[string]int{}
	for _, it := range f.Ops {
		keys[it.Key]++
	}
	for _, it := range f.Ops {
		switch it.K {
		case "msg", "run":
			if _, again := v.came[it.OID]; !again {
				v.came[it.OID] = f.came
			}
			v.entry(it, false)
		case "set":
			// The op that decides a key may come again beside another on the same key, which it stands above.
			if v.told[it.OID] == it.HLC && keys[it.Key] == 1 {
				v.fault("%s came again without a change", it.OID)
			}
			v.set(it)
		}
	}
}

// entry adds an entry or replaces the one held.
func (v *view) entry(it item, snap bool) {
	held, told := v.entries[it.OID], v.last[it.OID]
	v.last[it.OID] = it
	if it.K == "run" {
		v.run(held, it)
		return
	}
	e := &entry{item: it}
	if it.Text != nil {
		e.text = *it.Text
	}
	if held != nil && !snap && same(told, it) && held.text == e.text {
		v.fault("%s came again without a change", it.OID)
	}
	v.entries[it.OID] = e
}

func same(a, b item) bool { return a.Seq == b.Seq && a.At == b.At }

// run adds a slot, or moves the one held on.
func (v *view) run(held *entry, it item) {
	_, own := v.own[it.Of]
	if v.entries[it.Of] == nil && !own {
		v.fault("the answer %s came before its question %s", it.OID, it.Of)
	}
	if held != nil && it.Ep < held.Ep {
		if !v.behind { // a region that is behind may not know better, and has said so
			v.fault("the run %s went back from attempt %s to %s", it.OID, held.Ep, it.Ep)
		}
		return
	}
	e := &entry{item: it}
	switch {
	case it.Text != nil:
		e.text = *it.Text
		v.grown(held, e)
	case held == nil:
		if it.Len != nil && *it.Len > 0 {
			v.fault("the run %s is new here and came closed without its text", it.OID)
		}
	default:
		e.text = held.text
		if it.Ep > held.Ep && it.State != "queued" && e.text != "" && !closed(it.State) {
			v.fault("the run %s began the attempt %s and left the text of %s", it.OID, it.Ep, held.Ep)
		}
	}
	v.entries[it.OID] = e
	v.sum(e)
}

// grown checks a text that came whole against what was held of the same attempt.
func (v *view) grown(held, e *entry) {
	if held != nil && held.Ep == e.Ep && !strings.HasPrefix(e.text, held.text) {
		v.fault("the run %s became %q, which does not continue %q", e.OID, e.text, held.text)
	}
}

// sum checks a closed run's length and sum.
func (v *view) sum(e *entry) {
	if !closed(e.State) || e.Len == nil {
		return
	}
	if *e.Len != len(e.text) || e.Sum != digest(e.text) {
		v.fault("the run %s is %s with len %d and sum %s, and its text has %d and %s: %q",
			e.OID, e.State, *e.Len, e.Sum, len(e.text), digest(e.text), e.text)
	}
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:16]
}

// tok is the next piece of an answer. What a client would repair is a fault here: each byte comes once.
func (v *view) tok(f *frame) {
	e := v.entries[f.Run]
	if e == nil {
		v.fault("tok for %s, which is not held", f.Run)
		return
	}
	if f.Ep < e.Ep {
		if v.behind {
			return
		}
		v.fault("tok for attempt %s of %s, which is at %s", f.Ep, f.Run, e.Ep)
		return
	}
	if f.Ep > e.Ep {
		if f.Off > len(e.text) {
			v.fault("%d bytes of %s are missing below attempt %s", f.Off-len(e.text), f.Run, f.Ep)
			return
		}
		e.Ep, e.text = f.Ep, e.text[:f.Off]
	}
	switch {
	case f.Off < len(e.text):
		if !e.again || f.Off < e.covered {
			v.fault("%d bytes of %s came twice, from %d on", min(len(e.text)-f.Off, len(f.D)), f.Run, f.Off)
		}
		f.D = f.D[min(len(f.D), len(e.text)-f.Off):]
	case f.Off > len(e.text):
		v.fault("%d bytes of %s are missing, from %d on", f.Off-len(e.text), f.Run, len(e.text))
		return
	case closed(e.State) && f.D != "":
		v.fault("tok for %s, which is closed", f.Run)
	}
	e.text += f.D
	e.again = false
	v.bytes += len(f.D)
}

// set takes a map op: one oid keeps its smallest stamp, and per key the greatest stamp wins.
func (v *view) set(it item) {
	v.told[it.OID] = it.HLC
	ops := v.sets[it.Key]
	if ops == nil {
		ops = map[string]item{}
		v.sets[it.Key] = ops
	}
	if held, known := ops[it.OID]; known && held.HLC <= it.HLC {
		return
	}
	lowered := ops[it.OID]
	ops[it.OID] = it
	if val := v.values[it.Key]; lowered.HLC != "" && val.HLC == lowered.HLC {
		v.values[it.Key] = value{} // it may uncover another
	}
	for _, op := range ops {
		if op.HLC > v.values[it.Key].HLC {
			v.values[it.Key] = value{op.V, op.HLC, op.User}
		}
	}
}

// ok places this device's own ops.
func (v *view) ok(f *frame) {
	for _, p := range f.At {
		op, own := v.own[p.OID]
		delete(v.own, p.OID)
		if !own {
			continue
		}
		switch op.K {
		case "msg":
			e := &entry{item: op, text: *op.Text}
			if held := v.entries[p.OID]; held != nil {
				e = held
			}
			v.last[p.OID] = item{Seq: p.Seq, At: p.At}
			if e.Seq == 0 || byPlace(v.last[p.OID], e.item) < 0 { // one oid stands at its first place
				e.Seq, e.At = p.Seq, p.At
			}
			v.entries[p.OID] = e
		case "set":
			op.HLC = p.HLC
			v.set(op)
		}
	}
}

func byPlace(a, b item) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.At, b.At))
}

// log returns the entries in order.
func (v *view) log() []*entry {
	return slices.SortedFunc(maps.Values(v.entries), func(a, b *entry) int { return byPlace(a.item, b.item) })
}

// answers returns the runs of a question.
func (v *view) answers(of string) []*entry {
	return slices.DeleteFunc(v.log(), func(e *entry) bool { return e.K != "run" || e.Of != of })
}

// answered says whether a question has an answer that is closed.
func (v *view) answered(of string) bool {
	runs := v.answers(of)
	return len(runs) > 0 && closed(runs[0].State)
}

// String shows what every copy must agree on: places, texts, ends and values.
func (v *view) String() string {
	var b strings.Builder
	for _, e := range v.log() {
		switch e.K {
		case "msg":
			fmt.Fprintf(&b, "%d %s msg %s %s %s %q\n", e.Seq, e.At, e.OID, e.User, e.Role, e.text)
		case "run":
			fmt.Fprintf(&b, "%d %s run %s of %s %s %s %q\n", e.Seq, e.At, e.OID, e.Of, e.State, e.Fin, e.text)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(v.values)) {
		fmt.Fprintf(&b, "%s = %s at %s by %s\n", k, v.values[k].V, v.values[k].HLC, v.values[k].User)
	}
	return b.String()
}
