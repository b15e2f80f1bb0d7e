package check

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

// Entry is an entry as a client holds it.
type Entry struct {
	Item
	Shown string // a message's text, or an answer's so far
	// covered is how much of text came before the last cur. When the client comes back with that, again is set, and what is
	// beyond may come once more.
	covered int
	again   bool
	conn    int // that it came on
}

// View is a session as a client holds it: what it has applied, and the faults it met while it did.
type View struct {
	s       string
	conn    int // of what comes; the owner's
	Cur     string
	Behind  bool
	Opened  bool // a snap or a delta has come since the last open
	Entries map[string]*Entry
	Values  map[string]Value
	sets    map[string]map[string]Item // by register and oid: the map ops behind values and texts, as far as they are known
	more    bool                       // there are entries before those that were brought
	From    int64                      // the seq from which on the log is whole, if there are more; else 0
	loose   bool                       // what was shown by a region that was behind may be corrected, and so come again
	told    map[string]string          // by oid: the stamp that the server named last
	Last    map[string]Item            // by oid: what the server said last of a place and an attempt
	stood   map[string]Item            // as Last, of what is not to come again without a change
	parts   map[string]bool            // runs of which a region that was behind brought the end alone
	Own     map[string]Item            // ops under way from this device, by oid
	Faults  []string
	Bytes   int                  // bytes of answers that came as tok
	Came    map[string]time.Time // when an entry came first
}

// NewView is of a session of which nothing is held.
func NewView(s string) *View {
	return &View{s: s, Entries: map[string]*Entry{}, Values: map[string]Value{},
		sets: map[string]map[string]Item{}, told: map[string]string{}, Last: map[string]Item{}, stood: map[string]Item{}, Own: map[string]Item{}, Came: map[string]time.Time{},
		parts: map[string]bool{}}
}

func (v *View) fault(format string, args ...any) {
	v.Faults = append(v.Faults, v.s+": "+fmt.Sprintf(format, args...))
}

// Opening says that the client asks for the session, again if it had it: what followed the cur that it came with may come
// again.
func (v *View) Opening(cur string) {
	answered := v.Opened
	v.Opened = false
	if cur != v.Cur || v.Behind { // what came while the region was behind was for the time being
		v.repeats()
	}
	v.loose, v.Behind = v.Behind || v.loose && !answered, false
	for _, e := range v.Entries {
		e.again = true
	}
}

// repeats says that what is held may come again.
func (v *View) repeats() {
	v.told, v.stood = map[string]string{}, map[string]Item{}
	for _, e := range v.Entries {
		e.covered = 0
	}
}

// Apply does what the protocol says a client does with a frame, and notes what a server must not do.
func (v *View) Apply(f *Frame) {
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
		v.Cur = f.Cur
		for _, e := range v.Entries {
			if !e.again { // else it is what another connection has shown, maybe after the cur that this one began with
				e.covered = len(e.Shown)
			}
		}
	}
	if f.Behind != nil {
		v.Behind = *f.Behind
	}
}

// snap replaces what is held; what was held may not be gone unless the server says so.
func (v *View) snap(f *Frame) {
	held, values := v.Entries, v.Values
	v.Entries, v.Values, v.sets, v.told = map[string]*Entry{}, map[string]Value{}, map[string]map[string]Item{}, map[string]string{}
	clear(v.parts)
	v.whole(f)
	v.Behind = v.Behind || f.Behind != nil && *f.Behind
	for _, it := range f.Log {
		if _, twice := v.Entries[it.OID]; twice {
			v.fault("a snap has %s twice", it.OID)
		}
		v.Entries[it.OID] = held[it.OID]
		v.entry(it, true)
	}
	for k, val := range f.Map {
		v.Values[k] = val
		v.sets["set "+k] = map[string]Item{val.OID: {K: "set", OID: val.OID, Key: k, V: val.V, HLC: val.HLC, User: val.User}}
	}
	v.Opened = true
	if f.More || f.Behind != nil && *f.Behind {
		return
	}
	for oid, e := range held {
		if v.Entries[oid] == nil && f.Why != "floor" {
			v.fault("a snap (%s) lost %s %q", f.Why, oid, e.Shown)
		}
	}
	for k, val := range values {
		if v.Values[k].HLC < val.HLC && f.Why != "floor" {
			v.fault("a snap (%s) went back at key %s", f.Why, k)
		}
	}
	if !slices.IsSortedFunc(f.Log, ByPlace) {
		v.fault("a snap is not in order")
	}
}

func (v *View) delta(f *Frame) {
	v.Opened = true
	if f.Behind != nil && *f.Behind {
		v.Behind = true
	}
	if v.Behind && f.Behind != nil && !*f.Behind { // what stands where regions met, changed or not
		v.told, v.stood = map[string]string{}, map[string]Item{}
	}
	keys := map[string]int{}
	for _, it := range f.Ops {
		keys[it.Key]++
	}
	for _, it := range f.Ops {
		switch it.K {
		case "msg", "run":
			if _, again := v.Came[it.OID]; !again {
				v.Came[it.OID] = f.Came
			}
			v.entry(it, false)
		case "set":
			// The op that decides a key may come again beside another on the same key, which it stands above.
			if v.told[it.OID] == it.HLC && keys[it.Key] == 1 && !v.loose {
				v.fault("%s came again without a change", it.OID)
			}
			v.set(it)
		case "edit", "del":
			v.set(it)
		}
	}
	if f.Behind == nil && !v.Behind || f.Behind != nil && !*f.Behind {
		v.settled()
	}
}

// settled takes it that the region has all that the client has seen, and has said what of that it lacked before.
func (v *View) settled() {
	for oid := range v.parts {
		v.fault("the run %s came closed without its text from a region that was behind, and was left so when that had caught up", oid)
	}
	clear(v.parts)
}

// Page takes the page of entries before From.
func (v *View) Page(f *Frame) {
	if !slices.IsSortedFunc(f.Log, ByPlace) {
		v.fault("a page is not in order")
	}
	for _, it := range f.Log {
		if it.Seq >= v.From {
			v.fault("a page before %d has %s at %d", v.From, it.OID, it.Seq)
		}
		v.entry(it, true)
	}
	v.whole(f)
}

// whole takes it that the log is whole from the first entry of a snap or page on.
func (v *View) whole(f *Frame) {
	v.more = f.More
	if !f.More {
		v.From = 0
	} else if len(f.Log) > 0 {
		v.From = f.Log[0].Seq
	}
}

// Hold takes an entry of a page of older ones.
func (v *View) Hold(it Item) { v.entry(it, true) }

// entry adds an entry or replaces the one held.
func (v *View) entry(it Item, snap bool) {
	held, told := v.Entries[it.OID], v.stood[it.OID]
	v.Last[it.OID], v.stood[it.OID] = it, it
	if it.K == "run" {
		v.run(held, it)
		return
	}
	e := &Entry{Item: it, conn: v.conn}
	if it.Text != nil {
		e.Shown = *it.Text
	}
	if held != nil && !snap && !v.loose && same(told, it) && held.Shown == e.Shown {
		v.fault("%s came again without a change", it.OID)
	}
	v.Entries[it.OID] = e
}

func same(a, b Item) bool { return a.Seq == b.Seq && a.At == b.At }

// run adds a slot, or moves the one held on.
func (v *View) run(held *Entry, it Item) {
	_, own := v.Own[it.Of]
	if v.Entries[it.Of] == nil && !own && !v.more && !v.Behind { // who is behind may not know that the question was removed
		v.fault("the answer %s came before its question %s", it.OID, it.Of)
	}
	if held != nil && it.Ep < held.Ep {
		if !v.Behind { // a region that is behind may not know better, and has said so
			v.fault("the run %s went back from attempt %s to %s", it.OID, held.Ep, it.Ep)
		}
		return
	}
	e := &Entry{Item: it, conn: v.conn}
	switch {
	case it.Text != nil:
		delete(v.parts, it.OID)
		e.Shown = *it.Text
		v.grown(held, e)
	case held == nil && v.more: // it is older than what is held
		return
	case held == nil:
		if it.Len != nil && *it.Len > 0 && v.Behind {
			// The client was shown the begin of the answer, and that it was removed, by a region whose removal has not come here yet:
			// it is shown what follows, until that comes. Its token cannot say more than how far each feed was shown.
			v.parts[it.OID] = true
		} else if it.Len != nil && *it.Len > 0 {
			v.fault("the run %s is new here and came closed without its text", it.OID)
		}
	default:
		e.Shown = held.Shown
		if it.Ep > held.Ep && it.State != "queued" && e.Shown != "" && !Closed(it.State) {
			v.fault("the run %s began the attempt %s and left the text of %s", it.OID, it.Ep, held.Ep)
		}
	}
	v.Entries[it.OID] = e
	v.sum(e)
}

// grown checks a text that came whole against what was held of the same attempt.
func (v *View) grown(held, e *Entry) {
	if held == nil || held.Ep != e.Ep {
		return
	}
	if v.Behind && !Closed(e.State) && strings.HasPrefix(held.Shown, e.Shown) {
		e.Shown = held.Shown // the region has not come as far, and has said so
	}
	if !strings.HasPrefix(e.Shown, held.Shown) {
		v.fault("the run %s became %q, which does not continue %q", e.OID, e.Shown, held.Shown)
	}
}

// sum checks a closed run's length and sum.
func (v *View) sum(e *Entry) {
	if !Closed(e.State) || e.Len == nil || v.parts[e.OID] {
		return
	}
	if *e.Len != len(e.Shown) || e.Sum != Digest(e.Shown) {
		v.fault("the run %s is %s with len %d and sum %s, and its text has %d and %s: %q",
			e.OID, e.State, *e.Len, e.Sum, len(e.Shown), Digest(e.Shown), e.Shown)
	}
}

// Digest is an answer's sum.
func Digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:16]
}

// tok is the next piece of an answer. What a client would repair is a fault here: each byte comes once.
func (v *View) tok(f *Frame) {
	e := v.Entries[f.Run]
	if e == nil && (v.more || v.Behind) { // of an answer that is older than what is held, or was removed
		return
	}
	if e == nil {
		v.fault("tok for %s, which is not held", f.Run)
		return
	}
	if f.Ep < e.Ep {
		if v.Behind {
			return
		}
		v.fault("tok for attempt %s of %s, which is at %s", f.Ep, f.Run, e.Ep)
		return
	}
	if f.Ep > e.Ep {
		if f.Off > len(e.Shown) {
			v.fault("%d bytes of %s are missing below attempt %s", f.Off-len(e.Shown), f.Run, f.Ep)
			return
		}
		e.Ep, e.Shown = f.Ep, e.Shown[:f.Off]
	}
	switch {
	case f.Off < len(e.Shown):
		if !v.Behind && !v.loose && (!e.again || f.Off < e.covered) {
			v.fault("%d bytes of %s came twice, from %d on", min(len(e.Shown)-f.Off, len(f.D)), f.Run, f.Off)
		}
		f.D = f.D[min(len(f.D), len(e.Shown)-f.Off):]
	case f.Off > len(e.Shown):
		v.fault("%d bytes of %s are missing, from %d on", f.Off-len(e.Shown), f.Run, len(e.Shown))
		return
	case Closed(e.State) && f.D != "":
		v.fault("tok for %s, which is closed", f.Run)
	}
	e.Shown += f.D
	e.again = false
	v.Bytes += len(f.D)
}

// register names what a map op writes, "" if that is not followed here.
func register(it Item) string {
	switch it.K {
	case "set":
		return "set " + it.Key
	case "edit", "del":
		return "text " + it.Of
	}
	return ""
}

// set takes a map op: one oid keeps its smallest stamp, and per register the greatest stamp wins.
func (v *View) set(it Item) {
	v.told[it.OID] = it.HLC
	reg := register(it)
	ops := v.sets[reg]
	if ops == nil {
		ops = map[string]Item{}
		v.sets[reg] = ops
	}
	if held, known := ops[it.OID]; known && (held.HLC < it.HLC || held.HLC == it.HLC && it.K == "set") {
		return
	}
	before := v.top(reg)
	ops[it.OID] = it
	top := v.top(reg)
	switch e := v.Entries[top.Of]; {
	case top.K == "set":
		if top.HLC > v.Values[top.Key].HLC || v.Values[top.Key].HLC == before.HLC { // an op may have uncovered another
			v.Values[top.Key] = Value{top.V, top.HLC, top.User, top.OID}
		}
	case e != nil && (top.OID == it.OID || top.OID != before.OID):
		e.Shown = ""
		if top.K == "edit" && top.Text != nil {
			e.Shown = *top.Text
		}
	}
}

// top is the op that decides a register, of those that are known.
func (v *View) top(reg string) (top Item) {
	for _, op := range v.sets[reg] {
		if op.HLC > top.HLC {
			top = op
		}
	}
	return top
}

// ok places this device's own ops.
func (v *View) ok(f *Frame) {
	for _, p := range f.At {
		op, own := v.Own[p.OID]
		delete(v.Own, p.OID)
		if !own {
			continue
		}
		switch op.K {
		case "msg":
			e := &Entry{Item: op, Shown: *op.Text, conn: v.conn}
			if held := v.Entries[p.OID]; held != nil {
				e = held
			}
			v.Last[p.OID] = Item{Seq: p.Seq, At: p.At}
			v.stood[p.OID] = v.Last[p.OID]
			if e.Seq == 0 || ByPlace(v.Last[p.OID], e.Item) < 0 { // one oid stands at its first place
				e.Seq, e.At = p.Seq, p.At
			}
			v.Entries[p.OID] = e
		case "set", "edit", "del":
			op.HLC = p.HLC
			v.set(op)
		}
		if f.Cur == "" { // the session is not open yet: what answers the open may have it
			v.told[p.OID], v.stood[p.OID] = "", Item{}
			v.loose = v.loose || !v.Opened
		}
	}
}

// ByPlace orders a log.
func ByPlace(a, b Item) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.At, b.At))
}

// Log returns the entries in order.
func (v *View) Log() []*Entry {
	return slices.SortedFunc(maps.Values(v.Entries), func(a, b *Entry) int { return ByPlace(a.Item, b.Item) })
}

// Answers returns the runs of a question.
func (v *View) Answers(of string) []*Entry {
	return slices.DeleteFunc(v.Log(), func(e *Entry) bool { return e.K != "run" || e.Of != of })
}

// Answered says whether a question has an answer that is closed.
func (v *View) Answered(of string) bool {
	runs := v.Answers(of)
	return len(runs) > 0 && Closed(runs[0].State)
}

// String shows what every copy must agree on: places, texts, ends and values.
func (v *View) String() string {
	var b strings.Builder
	for _, e := range v.Log() {
		switch e.K {
		case "msg":
			fmt.Fprintf(&b, "%d %s msg %s %s %s %q\n", e.Seq, e.At, e.OID, e.User, e.Role, e.Shown)
		case "run":
			fmt.Fprintf(&b, "%d %s run %s of %s %s %s %q\n", e.Seq, e.At, e.OID, e.Of, e.State, e.Fin, e.Shown)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(v.Values)) {
		fmt.Fprintf(&b, "%s = %s at %s by %s\n", k, v.Values[k].V, v.Values[k].HLC, v.Values[k].User)
	}
	return b.String()
}
