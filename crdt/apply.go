package crdt

import (
	"bytes"
	"encoding/json"
)

// Item is one thing a client is shown: an entry that is new or replaces the one it holds, a map op as it was put,
// the next piece of an answer, or that much is gone. Exactly one of Entry, Map, Tok and Removal is set.
type Item struct {
	Entry *Entry
	Map   *MapOp
	Tok   *Tok
	// Removal: what a client holds may be gone, so it is to be shown the session anew.
	Removal *Removal
	// Again marks what stood before and still does, although another copy of it came: it is for who may have been shown
	// that one elsewhere.
	Again bool
}

// MapOp is an op on the session's map, with the version that decides between it and others on its register.
type MapOp struct {
	*Op
	Version
}

// Tok is a piece of an answer.
type Tok struct {
	Run     string
	Attempt Attempt
	Off     uint64
	Text    string
}

// Apply integrates an issued op and returns what changed for those who watch the session. Ops arrive in an order
// that respects causes; a dot that was seen before changes nothing. The result depends only on the set of ops
// applied, never on which of two concurrent ones came first.
func Apply(st Store, op *Op, dot Dot) []Item {
	h := ReadHeader(st)
	if dot.F <= h.Seen[dot.ID] {
		return nil
	}
	h.note(op, dot)
	h.write(st)
	if op.Kind.IsAnswer() {
		return applyAnswer(st, op, dot)
	}
	if op.Kind == KindExpire {
		expire(st, op, dot)
		return nil
	}
	if op.Kind == KindTrim || op.Kind == KindPurge { // it has no oid: nobody puts it again
		return []Item{{Removal: remove(st, op)}}
	}
	id := identityOf(st, op, dot)
	old, known := Lookup(st, op.OID)
	var items []Item
	if op.Kind == KindForget {
		items = []Item{{Removal: remove(st, op)}}
	}
	for _, run := range op.Runs {
		requestStop(st, run, op)
	}
	if known && old.Removed {
		buryCopy(st, op, id, old)
		return append(items, seatSlots(st, op, id)...)
	}
	addDot(st, dot, appendOpRef(room(st, 9+len(op.OID)), op))
	switch {
	case op.Kind == KindRead:
		return applyRead(st, op, id, old, known)
	case !known || id.before(old):
		setIdentity(st, op.OID, id, old, known)
		items = append(items, applyCopy(st, op, id, known, h.Marked)...)
	default:
		items = append(items, again(opItems(st, op.OID, nil))...)
	}
	return append(items, seatSlots(st, op, id)...)
}

// setIdentity makes a copy of an op the one that stands, in place of the old one, if one is known.
func setIdentity(st Store, oid string, id, old Identity, known bool) {
	if !known {
		add(st, append(append(room(st, 1+len(oid)), classIdentity), oid...), id.append(room(st, id.size())))
		return
	}
	dropCopy(st, old, oid)
	st.Set(identityKey(oid), id.encode())
}

func again(items []Item) []Item {
	for i := range items {
		items[i].Again = true
	}
	return items
}

// applyCopy puts in the copy of an op that stands now; known, if another stood before; marked, if messages of the session may have
// marks.
func applyCopy(st Store, op *Op, id Identity, known, marked bool) []Item {
	if id.reg != "" {
		return applyRegister(st, op, id, known)
	}
	if op.Kind != KindMsg {
		return nil
	}
	add(st, id.appendKey(room(st, id.keySize(op.OID)), classEntry, op.OID), appendStored(room(st, op.size()), op)) // an origin gives a place once
	return []Item{{Entry: viewMessage(st, op, id.Place, id.By, marked)}}
}

// addDot enters what the op of a dot touched: an unseen dot has no key.
func addDot(st Store, dot Dot, ref []byte) {
	add(st, appendDotKey(room(st, dotKeySize), dot.ID, dot.F), ref)
}

// stored is the form of an op inside its own session.
func stored(op *Op) []byte { return appendStored(make([]byte, 0, op.size()), op) }

func appendStored(b []byte, op *Op) []byte {
	c := *op
	c.Session, c.Trace = "", nil
	return c.Append(b)
}

func decodeStored(k, b []byte) *Op {
	op, err := DecodeOp(append([]byte{}, b...))
	if err != nil {
		corrupt(k, err)
	}
	return op
}

// seatSlots gives the answers that a copy of a question asks for their places. Answers to what was removed get none.
func seatSlots(st Store, op *Op, id Identity) (items []Item) {
	for _, seed := range op.slots() {
		if removed(st, seed.of) {
			buryRun(st, seed.oid)
		} else if s := seatSlot(st, op, id, seed); s != nil {
			items = append(items, Item{Entry: s.view(st, true)})
		} else if s, ok := ReadSlot(st, seed.oid); ok {
			items = append(items, Item{Entry: s.view(st, true), Again: true})
		}
	}
	return items
}

// seatSlot creates an answer slot, or moves it to where a copy of the question with a smaller place puts it. It
// returns nil if the slot stays where it is.
func seatSlot(st Store, op *Op, id Identity, seed slotSeed) *Slot {
	at := Place{Seq: seed.seq, At: id.At}
	s, ok := ReadSlot(st, seed.oid)
	switch {
	case !ok:
		s = &Slot{OID: seed.oid}
	case s.Place.Compare(at) <= 0:
		return nil
	default:
		st.Delete(s.Place.key(classOpen, s.OID))
		st.Delete(s.Place.key(classEntry, s.OID))
	}
	s.seat = seat{
		Of: seed.of, Asked: seed.model, User: op.User, Device: op.Device, TS: op.TS, Born: op.Stamp,
		Place: at, By: id.By, F: id.F,
	}
	st.Set(s.Place.key(classEntry, s.OID), nil)
	s.write(st)
	return s
}

func requestStop(st Store, run string, op *Op) {
	s, ok := ReadSlot(st, run)
	if !ok {
		return
	}
	want := uint8(stopStopped)
	if op.Kind != KindStop {
		want = stopInterrupted
	}
	s.Stop = max(s.Stop, want)
	s.write(st)
}

// registerOf names the register that a map op writes, or "". Names hold no byte below 0x20, so the separators here
// are unambiguous.
func registerOf(op *Op) string {
	switch op.Kind {
	case KindSet:
		return "s" + op.Key
	case KindEdit, KindDel:
		return "m" + op.Of
	case KindReact:
		return "x" + op.Of + "\x01" + op.User + "\x01" + op.Key
	}
	return ""
}

// applyRegister adds an op to its register. All ops of a register are kept, since a copy with a smaller stamp may
// come later and uncover the one below; the greatest wins.
func applyRegister(st Store, op *Op, id Identity, known bool) []Item {
	if op.Of != "" && removed(st, op.Of) {
		return nil // accepted, and nothing that it could show
	}
	st.Set(registerKey(id.reg, id.Version(), op.OID), appendStored(room(st, op.size()), op))
	if op.Of != "" {
		st.Set(writtenKey(op.Of), nil)
	}
	shown := &MapOp{Op: op, Version: id.Version()}
	if known || op.Of != "" { // an entry does not say by which stamp it shows what it shows
		return registerItems(st, shown, id.reg)
	}
	return []Item{{Map: shown}}
}

// winner returns the op that decides a register's value.
func winner(st Store, reg string) *MapOp {
	var top *MapOp
	lo, hi := registerRange(reg)
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		top = mapOp(k, v, len(lo))
		return false
	})
	return top
}

func mapOp(k, v []byte, head int) *MapOp {
	return &MapOp{Op: decodeStored(k, v), Version: versionOf(k[head:])}
}

// applyRead raises a user's read mark. It keeps the op that first reached the mark, whichever came first.
func applyRead(st Store, op *Op, id, old Identity, known bool) []Item {
	if !known || id.before(old) {
		setIdentity(st, op.OID, id, old, known)
	}
	if !raiseMark(st, op.User, readMark{by: id.By, op: op}) {
		return nil
	}
	return []Item{{Map: &MapOp{Op: op, Version: id.Version()}}}
}

// raiseMark keeps a mark, if it is the furthest.
func raiseMark(st Store, user string, mark readMark) bool {
	k := readKey(user)
	if b := st.Get(k); b != nil && !decodeMark(k, b).before(mark) {
		return false
	}
	st.Set(k, mark.encode())
	return true
}

// readMark is how far a user has read: the op that said so, and who numbered it.
type readMark struct {
	by OriginID
	op *Op
}

func (m readMark) encode() []byte { return append(be32(uint32(m.by)), stored(m.op)...) }

func decodeMark(k, b []byte) readMark {
	m, err := parseMark(b)
	if err != nil {
		corrupt(k, err)
	}
	return m
}

func parseMark(b []byte) (readMark, error) {
	if len(b) < 4 {
		return readMark{}, ErrCorrupt
	}
	op, err := DecodeOp(bytes.Clone(b[4:]))
	return readMark{by: OriginID(be32dec(b)), op: op}, err
}

// before reports whether a mark gives way to another: the one further on stands, of equals the older.
func (m readMark) before(n readMark) bool {
	if m.op.Seq != n.op.Seq {
		return m.op.Seq < n.op.Seq
	}
	return Version{n.op.Stamp, n.by}.Less(Version{m.op.Stamp, m.by})
}

func applyAnswer(st Store, op *Op, dot Dot) []Item {
	s, ok := ReadSlot(st, op.Run)
	if !ok { // removed: the question came before
		return nil
	}
	if op.Kind != KindChunk {
		addDot(st, dot, slotRef(op.Run))
	}
	switch op.Kind {
	case KindBegin:
		return s.begin(st, op)
	case KindChunk:
		return s.chunk(st, op, dot)
	default:
		return s.done(st, op)
	}
}

func (s *Slot) begin(st Store, op *Op) []Item {
	if op.Attempt.Compare(s.Attempt) <= 0 {
		s.again(st, op)
		return nil
	}
	s.restart(st, op)
	s.State, s.Nonce, s.Model = RunRunning, op.Nonce, op.Model
	s.write(st)
	return []Item{{Entry: s.view(st, true)}}
}

// restart makes op's attempt the standing one, with nothing in it.
func (s *Slot) restart(st Store, op *Op) {
	s.dropText(st)
	s.Attempt, s.Len, s.Active = op.Attempt, 0, op.Stamp
	s.Sum, s.Fin, s.Err, s.Nonce, s.Model, s.Usage = "", "", "", "", "", nil
}

// again takes it that something of the attempt that stands was reported twice, by incarnations of a region that did not know of each
// other: the attempt was alive at the later time, in whichever order the two come.
func (s *Slot) again(st Store, op *Op) {
	if op.Attempt == s.Attempt && s.State == RunRunning && op.Stamp > s.Active {
		s.Active = op.Stamp
		s.write(st)
	}
}

// doneAgain is again for an answer that is closed: of two ends of one text the later stands.
func (s *Slot) doneAgain(st Store, op *Op) []Item {
	if op.Attempt != s.Attempt || op.Len != s.Len || op.Stamp <= s.Active {
		return nil
	}
	s.State, s.Sum, s.Fin, s.Err, s.Active = op.State, op.Sum, op.Fin, op.Err, op.Stamp
	s.Usage = append(json.RawMessage(nil), op.Usage...)
	s.write(st)
	return []Item{{Entry: s.view(st, true)}}
}

func (s *Slot) chunk(st Store, op *Op, dot Dot) []Item {
	if op.Attempt != s.Attempt || s.State != RunRunning || op.Off != s.Len {
		s.again(st, op)
		return nil
	}
	s.Active = max(s.Active, op.Stamp)
	s.Len += uint64(len(op.Text))
	s.write(st)
	if op.Text == "" {
		return nil
	}
	st.Set(pieceKey(s.OID, op.Off), pieceValue(dot, op.Text))
	addDot(st, dot, slotRef(op.Run))
	return []Item{{Tok: &Tok{Run: s.OID, Attempt: s.Attempt, Off: op.Off, Text: op.Text}}}
}

func (s *Slot) done(st Store, op *Op) []Item {
	c := op.Attempt.Compare(s.Attempt)
	if c < 0 || (c == 0 && s.State.Closed()) {
		return s.doneAgain(st, op)
	}
	whole := c > 0
	if whole {
		s.restart(st, op)
	}
	text := s.Text(st)
	s.dropText(st)
	s.State, s.Len, s.Sum, s.Fin, s.Err = op.State, op.Len, op.Sum, op.Fin, op.Err
	s.Usage = append(json.RawMessage(nil), op.Usage...)
	s.Active = op.Stamp
	st.Set(textKey(s.OID), []byte(text))
	s.write(st)
	return []Item{{Entry: s.view(st, whole)}}
}
