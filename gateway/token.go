package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"sync"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// position is what was delivered of a session: what a resume token says.
type position struct {
	seen  crdt.Vector
	floor crdt.Floor // the highest seq and stamp delivered
	// shown is what was delivered for the time being, by a region that lacked some of seen; nil if nothing was.
	shown crdt.Vector
	// lent, with shown, is what all regions had that were behind when they showed the client something, and no more: of what was removed
	// by that, nothing was shown.
	lent crdt.Vector
}

// least is what both vectors cover.
func least(a, b crdt.Vector) crdt.Vector {
	both := crdt.Vector{}
	for id, f := range a {
		if f = min(f, b[id]); f > 0 {
			both[id] = f
		}
	}
	return both
}

// all is everything that the client has been shown.
func (p *position) all() crdt.Vector {
	if p.shown == nil {
		return p.seen
	}
	all := p.seen.Clone()
	all.Merge(p.shown)
	return all
}

// reach raises the position.
func (p *position) reach(seq uint64, stamp crdt.Stamp) {
	p.floor.Seq, p.floor.Stamp = max(p.floor.Seq, seq), max(p.floor.Stamp, stamp)
}

const (
	tokenVersion = 1
	tokenBehind  = 0x40 // a bit of the version's byte (0x80 was a form without lent)
	tokenWide    = 0x20 // another: the vectors would be too long for a token, and are left out
	macSize      = 16
	keyIDSize    = 2
)

var (
	errToken = errors.New("not a resume token of this user and session")
	errWide  = errors.New("a resume token that does not say what was delivered")
)

// tokens signs and checks resume tokens: version, key id, seq, stamp, vector (while a region is behind three, the
// first two after their lengths), and a MAC that also covers whom and
// which session the token is for.
type tokens struct{ keys [][]byte }

func keyID(key []byte) [keyIDSize]byte {
	sum := sha256.Sum256(key)
	return [keyIDSize]byte(sum[:keyIDSize])
}

// macs are MACs that were used before, to be used again: to make one costs more than to sign.
var macs sync.Pool

type keyedMAC struct {
	hash.Hash
	key string
}

func sign(key, body []byte, user, session string) []byte {
	mac, ok := macs.Get().(*keyedMAC)
	if !ok || mac.key != string(key) {
		mac = &keyedMAC{hmac.New(sha256.New, key), string(key)}
	}
	defer macs.Put(mac)
	mac.Reset()
	mac.Write(body)
	mac.Write([]byte{0})
	mac.Write([]byte(user))
	mac.Write([]byte{0})
	mac.Write([]byte(session))
	return mac.Sum(nil)[:macSize]
}

// mint returns the token of a position. One of a session that so many origins have written to that it cannot be told has the floor alone: who
// comes back with that is shown the session anew, which is true wherever it is, and what it puts still comes after all that it saw.
func (t tokens) mint(p *position, user, session string) string {
	version, vectors := byte(tokenVersion), p.vectors()
	switch {
	case minted(vectors) > wire.MaxCur:
		version, vectors = version|tokenWide, nil
	case p.shown != nil:
		version |= tokenBehind
	}
	id := keyID(t.keys[0])
	b := append([]byte{version}, id[:]...)
	b = binary.AppendUvarint(b, p.floor.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(p.floor.Stamp))
	b = append(b, vectors...)
	return base64.RawURLEncoding.EncodeToString(append(b, sign(t.keys[0], b, user, session)...))
}

// minted is how long a token with such vectors is at most, in characters.
func minted(vectors []byte) int {
	return base64.RawURLEncoding.EncodedLen(1 + keyIDSize + binary.MaxVarintLen64 + 8 + len(vectors) + macSize)
}

// vectors are those of a position, as its token has them.
func (p *position) vectors() (b []byte) {
	last := p.seen
	if p.shown != nil {
		for _, v := range []crdt.Vector{p.seen, p.shown} {
			e := crdt.EncodeVector(v)
			b = append(binary.AppendUvarint(b, uint64(len(e))), e...)
		}
		last = p.lent
	}
	return append(b, crdt.EncodeVector(last)...)
}

// parse reads a token. With errWide it returns what that one says.
func (t tokens) parse(cur, user, session string) (position, error) {
	if len(cur) > wire.MaxCur {
		return position{}, errToken
	}
	b, err := base64.RawURLEncoding.DecodeString(cur)
	if err != nil || len(b) < 1+keyIDSize+macSize || b[0]&^tokenBehind != tokenVersion && b[0] != tokenVersion|tokenWide {
		return position{}, errToken
	}
	body, mac := b[:len(b)-macSize], b[len(b)-macSize:]
	if !t.signed(body, mac, user, session) {
		return position{}, errToken
	}
	rest := body[1+keyIDSize:]
	seq, n := binary.Uvarint(rest)
	if n <= 0 || len(rest) < n+8 {
		return position{}, errToken
	}
	pos := position{floor: crdt.Floor{Seq: seq, Stamp: crdt.Stamp(binary.BigEndian.Uint64(rest[n:]))}}
	rest = rest[n+8:]
	if b[0]&tokenWide != 0 {
		if len(rest) > 0 {
			return position{}, errToken
		}
		return pos, errWide
	}
	last := &pos.seen
	if b[0]&tokenBehind != 0 {
		for _, v := range []*crdt.Vector{&pos.seen, &pos.shown} {
			size, n := binary.Uvarint(rest)
			if n <= 0 || size > uint64(len(rest)-n) {
				return position{}, errToken
			}
			if *v, err = crdt.DecodeVector(rest[n:][:size]); err != nil {
				return position{}, errToken
			}
			rest = rest[n+int(size):]
		}
		last = &pos.lent
	}
	if *last, err = crdt.DecodeVector(rest); err != nil {
		return position{}, errToken
	}
	return pos, nil
}

func (t tokens) signed(body, mac []byte, user, session string) bool {
	for _, key := range t.keys {
		id := keyID(key)
		if string(body[1:1+keyIDSize]) == string(id[:]) && hmac.Equal(mac, sign(key, body, user, session)) {
			return true
		}
	}
	return false
}
