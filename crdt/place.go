package crdt

import (
	"cmp"
	"encoding/binary"
	"strings"
)

// Place is where an entry stands in its session's log: by Seq, a Lamport time, then by the name of the origin.
type Place struct {
	Seq uint64
	At  Origin
}

// Compare orders places as clients sort them.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Seq, q.Seq), strings.Compare(string(p.At), string(q.At)))
}

func be64dec(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
func be32(v uint32) []byte    { return binary.BigEndian.AppendUint32(nil, v) }
func be32dec(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func versionOf(k []byte) Version { // of the tail of a register key: inverted stamp and origin
	return Version{Stamp: Stamp(^be64dec(k)), By: OriginID(^be32dec(k[8:]))}
}

// Identity is what is remembered of an op by its oid: which copy of it stands, and what it asked for.
type Identity struct {
	Kind  Kind
	Hash  [16]byte
	Place // zero Seq: the op takes none
	By    OriginID
	F     uint64 // with By and the session's partition: the standing copy's dot
	Stamp Stamp
	reg   string // the register it writes, if it is a map op
	// Removed: this is all that is left of the op, so that it is known when it comes again. A copy of it was covered by a forget
	// or a trim.
	Removed bool
}

// Version is the stamp of the standing copy.
func (id Identity) Version() Version { return Version{Stamp: id.Stamp, By: id.By} }

// before reports whether this copy of an op stands against another: entries by place, map ops by stamp. Of two ops that only
// share their oid, as no honest client has them, an entry stands: all regions have to agree on that, too.
func (id Identity) before(other Identity) bool {
	if (id.Seq == 0) != (other.Seq == 0) {
		return id.Seq != 0
	}
	if c := id.Place.Compare(other.Place); id.Seq != 0 && c != 0 {
		return c < 0
	}
	return id.Version().Less(other.Version())
}

func identityOf(st Store, op *Op, dot Dot) Identity {
	return Identity{
		Kind: op.Kind, Hash: op.contentHash(room(st, op.size())), Place: PlaceOf(op, dot),
		By: dot.ID, F: dot.F, Stamp: op.Stamp, reg: registerOf(op),
	}
}

// PlaceOf is where a copy of an op stands.
func PlaceOf(op *Op, dot Dot) Place {
	p := Place{At: dot.Origin}
	if op.lastSeq() > 0 {
		p.Seq = op.Seq
	}
	return p
}

func (id Identity) encode() []byte { return id.append(make([]byte, 0, id.size())) }

func (id Identity) size() int { return 80 + len(id.At) + len(id.reg) }

func (id Identity) append(b []byte) []byte {
	e := enc(b)
	e.uint(1, uint64(id.Kind))
	e.bytes(2, id.Hash[:])
	e.uint(3, id.Seq)
	e.str(4, string(id.At))
	e.fixed(5, uint64(id.By))
	e.uint(6, id.F)
	e.fixed(7, uint64(id.Stamp))
	e.str(8, id.reg)
	e.bool(9, id.Removed)
	return e
}

func decodeIdentity(b []byte) (id Identity, err error) {
	d, hashed := dec{b: b, text: string(b)}, false
	for d.next() {
		switch d.num {
		case 1:
			id.Kind = Kind(d.uint8())
		case 2:
			h := d.bytes()
			if hashed = len(h) == len(id.Hash); hashed {
				id.Hash = [16]byte(h)
			}
		case 3:
			id.Seq = d.uint()
		case 4:
			id.At = Origin(d.str())
		case 5:
			id.By = d.origin()
		case 6:
			id.F = d.uint()
		case 7:
			id.Stamp = d.stamp()
		case 8:
			id.reg = d.str()
		case 9:
			id.Removed = d.bool()
		default:
			d.fail("unknown field")
		}
	}
	if !hashed {
		d.fail("no hash")
	}
	return id, d.err
}

// Lookup finds an op by its oid.
func Lookup(st Store, oid string) (Identity, bool) {
	if lacksOID(st, oid) {
		return Identity{}, false
	}
	k := identityKey(oid)
	b := st.Get(k)
	if b == nil {
		return Identity{}, false
	}
	return identityAt(k, b), true
}

func identityAt(k, b []byte) Identity {
	id, err := decodeIdentity(b)
	if err != nil {
		corrupt(k, err)
	}
	return id
}

// Forgotten is when a session was last forgotten by an op whose oid begins so, 0 if it never was.
func Forgotten(st Store, prefix string) (last Stamp) {
	lo := identityKey(prefix)
	hi := append(identityKey(prefix), 0xff) // oids hold no such byte
	st.Scan(lo, hi, false, func(k, v []byte) bool {
		if id := identityAt(k, v); id.Kind == KindForget {
			last = max(last, id.Stamp)
		}
		return true
	})
	return last
}

// Header is what a session knows of itself as a whole.
type Header struct {
	MaxSeq   uint64
	MaxStamp Stamp
	Seen     Vector // per origin, the highest f of this session's ops
	Created  int64  // ms since 1970, of the oldest op
	Last     int64  // of the newest
	Cut      Vector // per origin, the f of the last forget or trim: who has not seen that may hold what is gone
	Marked   bool   // there was an edit or reaction, ever: without one, no message has a mark
	Swept    Vector // what all regions had by the last expiries: removals within it have left nothing
}

// ReadHeader returns the session's header; zero with an empty vector for a session never written.
func ReadHeader(st Store) Header {
	keeper, keeps := st.(HeaderKeeper)
	if keeps {
		if h := keeper.KeptHeader(); h != nil {
			return *h
		}
	}
	b := st.Get(headerKey)
	if b == nil {
		return Header{Seen: Vector{}, Cut: Vector{}}
	}
	h, err := decodeHeader(b)
	if err != nil {
		corrupt(headerKey, err)
	}
	if keeps {
		keeper.KeepHeader(&h)
	}
	return h
}

var headerKey = []byte{classHeader}

func (h Header) write(st Store) {
	e := enc(room(st, 48+(len(h.Seen)+len(h.Cut))*16))
	e.uint(1, h.MaxSeq)
	e.fixed(2, uint64(h.MaxStamp))
	e.bytes(3, h.Seen.append(room(st, len(h.Seen)*14)))
	e.int(4, h.Created)
	e.int(5, h.Last)
	e.bytes(6, h.Cut.append(room(st, len(h.Cut)*14)))
	e.bool(7, h.Marked)
	e.bytes(8, h.Swept.encode())
	st.Set(headerKey, e)
	if keeper, ok := st.(HeaderKeeper); ok {
		keeper.KeepHeader(&h)
	}
}

func decodeHeader(b []byte) (Header, error) {
	h, d := Header{Cut: Vector{}}, dec{b: b}
	for d.next() {
		switch d.num {
		case 1:
			h.MaxSeq = d.uint()
		case 2:
			h.MaxStamp = d.stamp()
		case 3:
			h.Seen = decodeSeen(&d)
		case 4:
			h.Created = d.int()
		case 5:
			h.Last = d.int()
		case 6:
			h.Cut = decodeSeen(&d)
		case 7:
			h.Marked = d.bool()
		case 8:
			h.Swept = decodeSeen(&d)
		default:
			d.fail("unknown field")
		}
	}
	return h, d.err
}

// note takes an op into the header.
func (h *Header) note(op *Op, dot Dot) {
	if op.Kind == KindExpire { // nobody's use of the session
		h.sweep(op.Base)
	} else {
		h.span(op.TS, op.TS)
	}
	h.MaxSeq = max(h.MaxSeq, op.lastSeq())
	h.MaxStamp = max(h.MaxStamp, op.Stamp)
	h.Seen[dot.ID] = max(h.Seen[dot.ID], dot.F)
	h.Marked = h.Marked || marks(op)
	if op.Kind.Removes() {
		h.Cut[dot.ID] = dot.F
	}
}

func (h *Header) merge(o Header) {
	if len(o.Seen) == 0 {
		return
	}
	h.span(o.Created, o.Last)
	h.MaxSeq = max(h.MaxSeq, o.MaxSeq)
	h.MaxStamp = max(h.MaxStamp, o.MaxStamp)
	h.Seen.Merge(o.Seen)
	h.Cut.Merge(o.Cut)
	h.Marked = h.Marked || o.Marked
	h.sweep(o.Swept)
}

func (h *Header) sweep(base Vector) {
	if len(base) > 0 {
		swept := h.Swept.Clone() // the one before may be kept
		swept.Merge(base)
		h.Swept = swept
	}
}

// span takes in the times of the oldest and the newest of some ops, before Seen has them.
func (h *Header) span(oldest, newest int64) {
	empty := len(h.Seen) == 0
	if empty || oldest < h.Created {
		h.Created = oldest
	}
	if empty || newest > h.Last {
		h.Last = newest
	}
}

// marks reports whether an op is one of those that mark the message that they are on.
func marks(op *Op) bool { return op.Of != "" && registerOf(op) != "" }
