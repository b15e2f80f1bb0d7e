package client

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// replica is a session's state as the frames received so far make it. Applying a frame twice changes nothing.
type replica struct {
	byOID map[string]*entry
	log   []*entry // by place
	vals  map[string]Value
	// tops has the op that decides every register, of those seen, deleted keys included.
	tops map[register]top
	read map[string]uint64
	more bool
	// floor is the seq from which on the log is whole, while there is more. What is held below it came late or was moved there: it
	// is shown when a page has brought what stands around it.
	floor uint64
	why   string
}

// entry is a message or an answer, and the Entry that shows it (nil after a change).
type entry struct {
	item   item
	answer *answer // nil: a message
	broken bool
	shown  *Entry
}

// register names what a map op writes: a key of the map, a message's text, or a user's reaction to a message.
type register struct{ kind, of, user, v string }

func newReplica() *replica {
	return &replica{
		byOID: map[string]*entry{}, vals: map[string]Value{}, tops: map[register]top{}, read: map[string]uint64{},
	}
}

func comparePlace(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.item.Seq, b.item.Seq), cmp.Compare(a.item.At, b.item.At), cmp.Compare(a.item.OID, b.item.OID))
}

// snap replaces all that is held. It returns the runs whose text is not what it should be.
func (r *replica) snap(f *frame) (differing []string) {
	*r = *newReplica()
	r.why = f.Why
	for key, v := range f.Map {
		r.vals[key] = Value{JSON: v.V, User: v.User, HLC: v.HLC}
		r.tops[register{kind: "set", v: key}] = top{v.OID, v.HLC}
	}
	maps.Copy(r.read, f.Read)
	differing = r.take(f.Log)
	r.whole(f)
	return differing
}

// whole takes it that the log is whole from the first entry of a snap or page on.
func (r *replica) whole(f *frame) {
	if r.more = f.More; len(f.Log) > 0 {
		r.floor = f.Log[0].Seq
	}
}

// first is the place in the log of the first entry that is shown.
func (r *replica) first() int {
	if !r.more {
		return 0
	}
	i, _ := slices.BinarySearchFunc(r.log, r.floor, func(e *entry, floor uint64) int {
		return cmp.Compare(e.item.Seq, floor)
	})
	return i
}

// take applies entries and map ops in the order given.
func (r *replica) take(items []item) (differing []string) {
	for i := range items {
		it := &items[i]
		switch it.K {
		case KindMessage, KindAnswer:
			if r.entry(it) == differ {
				differing = append(differing, it.OID)
			}
		default:
			r.mapOp(it)
		}
	}
	return differing
}

// older takes a page. Only answers and messages that are not held are new in it.
func (r *replica) older(f *frame) (differing []string) {
	r.whole(f)
	return r.take(f.Log)
}

func (r *replica) entry(it *item) fit {
	e := r.byOID[it.OID]
	if e == nil {
		e = &entry{}
		r.byOID[it.OID] = e
	} else {
		r.unplace(e)
	}
	e.item, e.shown = *it, nil
	verdict := fits
	if it.K == KindAnswer {
		if e.answer == nil {
			e.answer = &answer{}
		}
		verdict = e.answer.entry(it)
		e.broken = e.broken && verdict == differ
	}
	r.place(e)
	return verdict
}

func (r *replica) place(e *entry) {
	i, _ := slices.BinarySearchFunc(r.log, e, comparePlace)
	r.log = slices.Insert(r.log, i, e)
}

func (r *replica) unplace(e *entry) {
	if i, ok := slices.BinarySearchFunc(r.log, e, comparePlace); ok {
		r.log = slices.Delete(r.log, i, i+1)
	}
}

// tok applies a piece of an answer; one of a run that is not held is stale.
func (r *replica) tok(f *frame) fit {
	e := r.byOID[f.Run]
	if e == nil || e.answer == nil {
		return stale
	}
	verdict := e.answer.tok(f.EP, f.Off, f.D)
	if verdict == fits {
		e.shown = nil
	}
	return verdict
}

// top is an op that decides a register.
type top struct{ oid, hlc string }

// gives reports whether an op that comes decides: one with a greater stamp, or the same op again. With a smaller stamp it may
// uncover another, which then comes after it; with the same one, an entry may have been shown without it in between.
func (t top) gives(it *item) bool {
	return it.HLC > t.hlc || it.OID != "" && it.OID == t.oid && it.HLC <= t.hlc
}

// mapOp applies an op on the map, an edit, a reaction or a read mark. An op on a message that is not held needs no
// memory but its stamp: the message, when it comes, shows it.
func (r *replica) mapOp(it *item) {
	if it.K == "read" {
		r.read[it.User] = max(r.read[it.User], it.Seq)
		return
	}
	reg, ok := registerOf(it)
	if !ok || !r.tops[reg].gives(it) {
		return
	}
	r.tops[reg] = top{it.OID, it.HLC}
	if it.K == "set" {
		r.set(it)
	} else if e := r.byOID[it.Of]; e != nil && e.answer == nil {
		e.rewrite(it)
	}
}

func registerOf(it *item) (register, bool) {
	switch it.K {
	case "set":
		return register{kind: "set", v: it.Key}, true
	case "edit", "del":
		return register{kind: "text", of: it.Of}, true
	case "react":
		return register{kind: "react", of: it.Of, user: it.User, v: reaction(it.V)}, true
	}
	return register{}, false
}

func (r *replica) set(it *item) {
	if isNull(it.V) {
		delete(r.vals, it.Key)
		return
	}
	r.vals[it.Key] = Value{JSON: it.V, User: it.User, HLC: it.HLC}
}

func isNull(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// reaction is the `v` of a react: a string; anything else stands for itself.
func reaction(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		return string(v)
	}
	return s
}

// rewrite applies an edit, a deletion or a reaction to a message.
func (e *entry) rewrite(it *item) {
	e.shown = nil
	switch it.K {
	case "edit":
		e.item.Text, e.item.Edited, e.item.Deleted = it.Text, true, false
	case "del":
		e.item.Text, e.item.Parts, e.item.Edited, e.item.Deleted = nil, nil, false, true
	case "react":
		e.react(reaction(it.V), it.User, it.On)
	}
}

// react keeps users sorted, as entries from a region have them.
func (e *entry) react(v, user string, on bool) {
	all := maps.Clone(e.item.React)
	if all == nil {
		all = map[string][]string{}
	}
	users := slices.Clone(all[v])
	i, has := slices.BinarySearch(users, user)
	if on && !has {
		users = slices.Insert(users, i, user)
	} else if !on && has {
		users = slices.Delete(users, i, i+1)
	}
	all[v] = users
	if len(users) == 0 {
		delete(all, v)
	}
	e.item.React = all
}

// own applies an op of this client, which its region has stored where at says: a region does not send it back.
func (r *replica) own(p *pending, at placed, user, device string) {
	it := item{
		K: p.op.K, OID: p.op.OID, Seq: at.Seq, At: at.At, TS: p.born.UnixMilli(), User: user, Device: device, HLC: at.HLC,
		Role: cmp.Or(p.op.Role, "user"), Text: p.op.Text, Parts: p.op.Parts, Of: p.op.Of, Key: p.op.Key, V: p.op.V,
	}
	it.On = p.op.On != nil && *p.op.On
	switch held := r.byOID[it.OID]; {
	case it.K == "run" || it.K == "stop" || it.K == "forget": // what they do comes as entries, or a snap
	case it.K == "read":
		it.Seq = r.readTo(*p.op.Seq, at.Seq)
		r.mapOp(&it)
	case it.K != KindMessage:
		r.mapOp(&it)
	case held == nil:
		r.entry(&it)
	default:
		r.moveDown(held, at)
	}
}

// readTo caps a read mark as regions do: by what they say, or by what is held.
func (r *replica) readTo(asked, told uint64) uint64 {
	if told > 0 {
		return told
	}
	if n := len(r.log); n > 0 {
		return min(asked, r.log[n-1].item.Seq)
	}
	return 0
}

// moveDown places a message that is held, and was put again in another region: of two places the smaller stands.
func (r *replica) moveDown(e *entry, at placed) {
	there := &entry{item: item{Seq: at.Seq, At: at.At, OID: e.item.OID}}
	if comparePlace(there, e) >= 0 {
		return
	}
	r.unplace(e)
	e.item.Seq, e.item.At, e.shown = at.Seq, at.At, nil
	r.place(e)
}

// show returns the log as it is now. Entries that did not change since the last call are the same.
func (r *replica) show() []*Entry {
	held := r.log[r.first():]
	log := make([]*Entry, len(held))
	for i, e := range held {
		if e.shown == nil {
			e.shown = e.view()
		}
		log[i] = e.shown
	}
	return log
}

func (e *entry) view() *Entry {
	it := &e.item
	v := &Entry{
		Kind: it.K, OID: it.OID, Seq: it.Seq, At: it.At, Time: time.UnixMilli(it.TS), User: it.User, Device: it.Device,
		Role: it.Role, Parts: it.Parts, Edited: it.Edited, Deleted: it.Deleted, React: it.React, Ext: it.Ext,
	}
	if it.Text != nil {
		v.Text = *it.Text
	}
	if a := e.answer; a != nil {
		v.Text, v.Of, v.Model, v.Status, v.EP = string(a.text), a.of, a.model, a.state, a.ep
		v.Fin, v.Usage, v.Err, v.Broken = a.fin, a.usage, errText(a.err), e.broken
	}
	return v
}

// errText is an answer's `err` as text, whatever it is.
func errText(b json.RawMessage) string {
	if isNull(b) {
		return ""
	}
	return reaction(b)
}
