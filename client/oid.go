package client

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newOID makes a ULID (github.com/ulid/spec): 48 bits of time in milliseconds and 80 random bits, 26 characters
// that sort by time.
func newOID(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:]) // never fails: crypto/rand ends the process instead
	ms := uint64(now.UnixMilli())
	b[0], b[1], b[2], b[3], b[4], b[5] = byte(ms>>40), byte(ms>>32), byte(ms>>24), byte(ms>>16), byte(ms>>8), byte(ms)
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var s [26]byte
	for i := 25; i >= 0; i-- {
		s[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(s[:])
}

// ValidSession reports whether a session may have this id: owner/name, each 1–64 of [A-Za-z0-9._~-].
func ValidSession(id string) bool {
	slash := 0
	for i := 0; i < len(id); i++ {
		if id[i] == '/' {
			if slash != 0 {
				return false
			}
			slash = i
		} else if !nameByte(id[i]) {
			return false
		}
	}
	owner, name := slash, len(id)-slash-1
	return owner >= 1 && owner <= 64 && name >= 1 && name <= 64
}

func nameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.' || b == '_' || b == '~' || b == '-'
}
