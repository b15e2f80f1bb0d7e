package crdt

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Entry is a message or an answer slot as clients see it.
type Entry struct {
	OID string
	Place
	Version Version // of the op that created it: sorts what a client is sent after its causes
	TS      int64
	User    string
	Device  string

	Msg *Message // set for a message
	Run *Run     // set for an answer slot
}

// Message is what an entry says, with the edits and reactions it has by now.
type Message struct {
	Role    string
	Text    string
	Parts   json.RawMessage
	Ext     json.RawMessage
	Edited  bool
	Deleted bool
	React   map[string][]string // reaction -> users, sorted
}

// Run is how far an answer is.
type Run struct {
	Of      string
	Model   string
	State   RunState
	Attempt Attempt
	Text    *string // the whole text so far; nil: as it was
	Len     uint64
	Sum     string
	Fin     string
	Usage   json.RawMessage
	Err     string
}

func (s *Slot) view(st Store, whole bool) *Entry {
	run := &Run{
		Of: s.Of, Model: s.Model, State: s.State, Attempt: s.Attempt,
		Len: s.Len, Sum: s.Sum, Fin: s.Fin, Usage: s.Usage, Err: s.Err,
	}
	if run.Model == "" {
		run.Model = s.Asked
	}
	if whole {
		text := s.Text(st)
		run.Text = &text
	}
	return &Entry{
		OID: s.OID, Place: s.Place, Version: Version{s.Born, s.By}, TS: s.TS, User: s.User, Device: s.Device, Run: run,
	}
}

// viewMessage shows a message that by numbered; marked, if it may have a mark.
func viewMessage(st Store, op *Op, at Place, by OriginID, marked bool) *Entry {
	m := &Message{Role: op.Role, Text: op.Text, Parts: op.Parts, Ext: op.Ext}
	if marked && st.Get(writtenKey(op.OID)) != nil {
		m.React = reactions(st, op.OID)
		m.rewrite(winner(st, "m"+op.OID))
	}
	return &Entry{
		OID: op.OID, Place: at, Version: Version{op.Stamp, by}, TS: op.TS, User: op.User, Device: op.Device, Msg: m,
	}
}

// rewrite shows the last edit, or that the message was deleted.
func (m *Message) rewrite(top *MapOp) {
	if top == nil {
		return
	}
	m.Deleted, m.Edited, m.Text = top.Kind == KindDel, top.Kind == KindEdit, top.Text
	if m.Deleted {
		m.Parts = nil
	}
}

// reactions collects who reacted how to a message.
func reactions(st Store, oid string) map[string][]string {
	var all map[string][]string
	registers(st, "x"+oid+"\x01", func(top *MapOp) {
		if !top.On {
			return
		}
		if all == nil {
			all = map[string][]string{}
		}
		all[top.Key] = append(all[top.Key], top.User)
	})
	for _, users := range all {
		slices.Sort(users)
	}
	return all
}

// registers visits the deciding op of every register whose name starts with prefix.
func registers(st Store, prefix string, visit func(*MapOp)) {
	last := ""
	lo := key(classRegister, []byte(prefix))
	hi := append(slices.Clone(lo), 0xff)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		name, _, _ := strings.Cut(string(k[1:]), "\x00")
		if name != last {
			visit(mapOp(k, v, len(name)+2))
			last = name
		}
		return true
	})
}

// Map returns the deciding op of every key of the session's map that is set.
func Map(st Store) []*MapOp {
	var all []*MapOp
	registers(st, "s", func(top *MapOp) {
		if len(top.Value) > 0 {
			all = append(all, top)
		}
	})
	return all
}

// Read returns every user's read mark.
func Read(st Store) map[string]uint64 {
	marks := map[string]uint64{}
	lo, hi := classRange(classRead)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		if m := decodeMark(k, v); !m.removed() {
			marks[string(k[1:])] = m.op.Seq
		}
		return true
	})
	return marks
}

// View returns an entry of the log by its oid: a message's, or a run's.
func View(st Store, oid string) (*Entry, bool) {
	if s, ok := ReadSlot(st, oid); ok {
		return s.view(st, true), true
	}
	id, ok := Lookup(st, oid)
	if !ok || id.Removed || id.Kind != KindMsg {
		return nil, false
	}
	return viewAt(st, id.key(classEntry, oid)), true
}

// viewAt reads the entry under a log key.
func viewAt(st Store, k []byte) *Entry {
	place, oid := placeOf(k)
	b := st.Get(k)
	if len(b) == 0 {
		s, ok := ReadSlot(st, oid)
		if !ok {
			corrupt(k, ErrNotFound)
		}
		return s.view(st, true)
	}
	return viewMessage(st, decodeStored(k, b), place, place.At.ID(), true)
}

// Page returns the last limit entries with a seq below before (0: all), oldest first, and whether there are older
// ones. It does not cut between entries of equal seq, and may return a few more for that.
func Page(st Store, before uint64, limit int) (log []*Entry, more bool) {
	lo, hi := classRange(classEntry)
	if before > 0 {
		hi = key(classEntry, be64(before))
	}
	var keys [][]byte
	st.Scan(lo, hi, true, func(k, _ []byte) bool {
		if n := len(keys); n >= limit && (n == 0 || be64dec(k[1:9]) != be64dec(keys[n-1][1:9])) {
			more = true
			return false
		}
		keys = append(keys, slices.Clone(k))
		return true
	})
	for _, k := range slices.Backward(keys) {
		log = append(log, viewAt(st, k))
	}
	return log, more
}

// Since returns what a holder of seen lacks: entries and map ops as they are now, causes first.
func Since(st Store, seen Vector) []Item { return since(st, seen).items(st, seen) }

// SinceBehind is Since for a holder that was also shown, by a region which was behind, what seen does not say. It may have
// been shown copies that do not stand, so what stands comes even where seen has it.
func SinceBehind(st Store, seen Vector) []Item { return since(st, seen).items(st, nil) }

// since is what the ops that seen lacks touched.
func since(st Store, seen Vector) *touched {
	var found touched
	h := ReadHeader(st)
	for _, id := range h.Seen.IDs() {
		lo, hi := dotKey(id, seen[id]+1), dotKey(id, h.Seen[id]+1)
		st.Scan(lo, hi, false, func(_, v []byte) bool {
			found.add(v)
			return true
		})
	}
	return &found
}

// Crossed returns what was changed since base by ops that a holder of seen had seen elsewhere, and is touched by ops that it
// had not, or is told, ops of its own of which it was told where they stood: where the two meet, what it was shown in between may not
// be what stands now. It also returns what has come since it was shown anything.
func Crossed(st Store, base, seen, shown Vector, told []string) []Item {
	h := ReadHeader(st)
	known, fresh := map[string]bool{}, map[string]bool{}
	for _, oid := range told {
		fresh[oid] = true
	}
	for _, id := range h.Seen.IDs() {
		lo, hi := dotKey(id, min(base[id], seen[id])+1), dotKey(id, h.Seen[id]+1)
		st.Scan(lo, hi, false, func(k, v []byte) bool {
			side := fresh
			if f := be64dec(k[5:]); f <= seen[id] {
				if side = known; f <= base[id] {
					return true
				}
			}
			r := decodeRef(v)
			for _, name := range append(r.runs, r.op) {
				side[name] = true
			}
			return true
		})
	}
	found := since(st, shown)
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, run := ReadSlot(st, name); fresh[name] && run {
			found.add(slotRef(name))
		} else if fresh[name] {
			found.add([]byte(string(classIdentity) + name))
		}
	}
	return found.items(st, nil)
}

// touched collects what dots refer to, each once.
type touched struct {
	refs []string
	have map[string]bool
}

func (t *touched) add(ref []byte) {
	if t.have == nil {
		t.have = map[string]bool{}
	}
	if !t.have[string(ref)] {
		t.have[string(ref)] = true
		t.refs = append(t.refs, string(ref))
	}
}

func (t *touched) items(st Store, seen Vector) []Item {
	var items []Item
	shown := map[string]bool{}
	for _, ref := range t.refs {
		for _, it := range itemsOf(st, decodeRef([]byte(ref)), seen) {
			if oid := it.oid(); !shown[oid] {
				shown[oid] = true
				items = append(items, it)
			}
		}
	}
	slices.SortStableFunc(items, compareItems)
	return items
}

// itemsOf shows what a dot refers to: the op itself, and the answer slots that it touched. What a holder of seen has
// as it stands is left out: the dot is that of another copy, which does not.
func itemsOf(st Store, r ref, seen Vector) []Item {
	created := r.op != ""
	var items []Item
	if created {
		items = opItems(st, r.op, seen)
	}
	for _, run := range r.runs {
		if s, ok := ReadSlot(st, run); ok && !(created && s.F <= seen[s.By]) {
			items = append(items, Item{Entry: s.view(st, true)})
		}
	}
	return items
}

func opItems(st Store, oid string, seen Vector) []Item {
	id, ok := Lookup(st, oid)
	switch {
	case !ok || id.Removed || id.F <= seen[id.By]:
		return nil
	case id.Kind == KindRead:
		return readItem(st, id, oid)
	case id.Kind == KindMsg:
		return []Item{{Entry: viewAt(st, id.key(classEntry, oid))}}
	case id.reg != "":
		k := registerKey(id.reg, id.Version(), oid)
		if b := st.Get(k); b != nil { // else it is on a message that was removed
			return registerItems(st, &MapOp{Op: decodeStored(k, b), Version: id.Version()}, id.reg)
		}
	}
	return nil
}

// registerItems shows an op on a register, and with it the one that decides: if the op was shown before under a
// greater stamp, the deciding one was not.
func registerItems(st Store, op *MapOp, reg string) []Item {
	items := []Item{{Map: op}}
	if top := winner(st, reg); top.OID != op.OID {
		items = append(items, Item{Map: top})
	}
	return items
}

// Standing returns the op that decides what an entry shows instead of an op on it; nil if that one does. (The map's values say
// by which stamp they stand; entries do not.)
func Standing(st Store, oid string) []Item {
	id, ok := Lookup(st, oid)
	if !ok || id.reg == "" {
		return nil
	}
	if top := winner(st, id.reg); top != nil && top.OID != oid && top.Of != "" {
		return []Item{{Map: top}}
	}
	return nil
}

// readItem shows a read mark's op only if it still is the mark.
func readItem(st Store, id Identity, oid string) []Item {
	var items []Item
	lo, hi := classRange(classRead)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		if m := decodeMark(k, v); m.op.OID == oid {
			items = append(items, Item{Map: &MapOp{Op: m.op, Version: id.Version()}})
		}
		return true
	})
	return items
}

// oid and version are those of the entry or map op; pieces of answers have none.
func (it Item) oid() string {
	if it.Entry != nil {
		return it.Entry.OID
	}
	return it.Map.OID
}

func (it Item) version() Version {
	if it.Entry != nil {
		return it.Entry.Version
	}
	return it.Map.Version
}

// compareItems puts causes first: stamps grow along every chain of causes. Entries of one op go by place.
func compareItems(a, b Item) int {
	va, vb := a.version(), b.version()
	switch {
	case va.Less(vb):
		return -1
	case vb.Less(va):
		return 1
	case a.Entry != nil && b.Entry != nil:
		return a.Entry.Place.Compare(b.Entry.Place)
	}
	return 0
}
