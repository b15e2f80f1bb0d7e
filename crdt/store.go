package crdt

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Store holds one session's elements, each a key and a value that this package gives meaning to. Mem keeps them in
// memory; a region keeps them on disk. A Store that cannot read or write remembers its error and answers as if
// empty; its owner looks before it trusts what came out.
type Store interface {
	// Get returns nil for an absent key. The result is valid until the store next changes.
	Get(key []byte) []byte
	// Set puts a value, which Apply does not change or use again: a store that nothing is merged into may keep it.
	Set(key, value []byte)
	Delete(key []byte)
	// Scan visits lo <= key < hi, descending if reverse, until visit returns false. visit must not change the store.
	Scan(lo, hi []byte, reverse bool, visit func(key, value []byte) bool)
}

// Adder is a Store that can be told that a key is not there, which spares it the look.
type Adder interface {
	// Add is Set of a key that is absent.
	Add(key, value []byte)
}

// IsHeader reports whether a key is the header's.
func IsHeader(key []byte) bool { return len(key) == 1 && key[0] == classHeader }

// IsIdentity reports whether a key is an op's oid. Each op looks for its own, which hardly ever is there.
func IsIdentity(key []byte) bool { return len(key) > 0 && key[0] == classIdentity }

// Identities is the range of those keys.
func Identities() (lo, hi []byte) { return classRange(classIdentity) }

func add(st Store, key, value []byte) {
	if a, ok := st.(Adder); ok {
		a.Add(key, value)
		return
	}
	st.Set(key, value)
}

// OIDKeeper is a Store that may know which oids there are, which spares most ops the look for their own.
type OIDKeeper interface {
	// LacksOID reports that no op of the session has that oid. False: it is to be looked for.
	LacksOID(oid string) bool
}

func lacksOID(st Store, oid string) bool {
	k, keeps := st.(OIDKeeper)
	return keeps && k.LacksOID(oid)
}

// Roomer is a Store that lends memory for keys and values: what it is then given may be in it, and so it copies what it keeps.
type Roomer interface {
	// Room returns an empty slice that n bytes fit into. It is valid until the store is written.
	Room(n int) []byte
}

func room(st Store, n int) []byte {
	if r, lends := st.(Roomer); lends {
		return r.Room(n)
	}
	return make([]byte, 0, n)
}

// HeaderKeeper is a Store that keeps the header as it was last read or written, since every op reads it several times. It
// forgets it when that element changes in any other way.
type HeaderKeeper interface {
	// KeptHeader is nil if none is kept. What it holds is changed only by who writes it next.
	KeptHeader() *Header
	KeepHeader(*Header)
}

// Encode returns the session's canonical bytes: equal sessions have equal bytes.
func Encode(st Store) []byte {
	var e enc
	everything(st, func(k, v []byte) {
		e.element(1, k)
		e.element(2, v)
	})
	return e
}

func everything(st Store, visit func(k, v []byte)) {
	st.Scan([]byte{0}, []byte{0xff}, false, func(k, v []byte) bool {
		visit(k, v)
		return true
	})
}

// Element classes: the first byte of a key.
const (
	classHeader   = 'h'
	classIdentity = 'i' // oid
	classEntry    = 'e' // place, oid -> the message's op; empty for an answer slot
	classSlot     = 'r' // run
	classPiece    = 'a' // run, offset
	classText     = 't' // run -> the whole text of a closed answer
	classRegister = 'v' // register, version inverted, oid -> the op
	classDot      = 'd' // origin id, f -> what the op touched
	classOpen     = 'o' // place, run: answers that are not closed
	classRead     = 'q' // user
	classWritten  = 'w' // oid of a message that was edited, deleted or reacted to: spares most views two scans
	classExpiry   = 'x' // origin id, f -> an expiry that not all regions may have
)

func key(class byte, parts ...[]byte) []byte {
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	return appendKey(make([]byte, 0, n), class, parts...)
}

func appendKey(k []byte, class byte, parts ...[]byte) []byte {
	k = append(k, class)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

var zero = []byte{0}

func identityKey(oid string) []byte { return key(classIdentity, []byte(oid)) }

func (p Place) key(class byte, oid string) []byte {
	return p.appendKey(make([]byte, 0, p.keySize(oid)), class, oid)
}

func (p Place) keySize(oid string) int { return 1 + 8 + len(p.At) + 1 + len(oid) }

func (p Place) appendKey(k []byte, class byte, oid string) []byte {
	k = append(binary.BigEndian.AppendUint64(append(k, class), p.Seq), p.At...)
	return append(append(k, 0), oid...)
}

// placeOf splits what Place.key joined.
func placeOf(k []byte) (Place, string) {
	seq, rest := be64dec(k[1:9]), k[9:]
	at, oid, _ := bytes.Cut(rest, zero)
	return Place{Seq: seq, At: Origin(at)}, string(oid)
}

func slotKey(run string) []byte { return key(classSlot, []byte(run)) }

func textKey(run string) []byte { return key(classText, []byte(run)) }

func pieceKey(run string, off uint64) []byte { return key(classPiece, []byte(run), zero, be64(off)) }

func pieceRange(run string) (lo, hi []byte) {
	return key(classPiece, []byte(run), zero), key(classPiece, []byte(run), []byte{1})
}

// dotKeySize is the size of each key of a dot.
const dotKeySize = 1 + 4 + 8

func dotKey(id OriginID, f uint64) []byte { return appendDotKey(make([]byte, 0, dotKeySize), id, f) }

func appendDotKey(k []byte, id OriginID, f uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(append(k, classDot), uint32(id)), f)
}

func expiryKey(id OriginID, f uint64) []byte { return key(classExpiry, be32(uint32(id)), be64(f)) }

func readKey(user string) []byte { return key(classRead, []byte(user)) }

func writtenKey(of string) []byte { return key(classWritten, []byte(of)) }

func registerKey(reg string, v Version, oid string) []byte {
	return key(classRegister, []byte(reg), zero, be64(^uint64(v.Stamp)), be32(^uint32(v.By)), []byte(oid))
}

func registerRange(reg string) (lo, hi []byte) {
	return key(classRegister, []byte(reg), zero), key(classRegister, []byte(reg), []byte{1})
}

func classRange(class byte) (lo, hi []byte) { return []byte{class}, []byte{class + 1} }

// corrupt ends the process: an element that this package wrote does not read back, so nothing can be trusted.
func corrupt(k []byte, err error) {
	panic(fmt.Sprintf("crdt: element %q: %v", k, err))
}
