package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Origin says who numbered an op: "region.incarnation", the incarnation as 16 hex digits. A region that lost its
// disks goes on under a new incarnation, so that no number is ever given twice.
type Origin string

// OriginID is an Origin's short form in vectors, keys and tokens: the first four bytes of its SHA-256.
type OriginID uint32

// NewOrigin names an incarnation of a region.
func NewOrigin(region string, incarnation uint64) Origin {
	return Origin(fmt.Sprintf("%s.%016x", region, incarnation))
}

// ParseOrigin checks a name that came from outside.
func ParseOrigin(s string) (Origin, error) {
	region, inc, ok := strings.Cut(s, ".")
	if !ok || !ValidRegion(region) || len(inc) != 16 || strings.Trim(inc, "0123456789abcdef") != "" {
		return "", fmt.Errorf("origin %q is not region.incarnation", s)
	}
	return Origin(s), nil
}

// Region returns the name before the dot.
func (o Origin) Region() string {
	region, _, _ := strings.Cut(string(o), ".")
	return region
}

// Incarnation returns the number behind the dot: of two of a region, the later one is greater. It is 0 for no origin.
func (o Origin) Incarnation() uint64 {
	_, inc, _ := strings.Cut(string(o), ".")
	n, _ := strconv.ParseUint(inc, 16, 64)
	return n
}

// MaxIncarnation is what incarnations are below that come from elsewhere: beyond, there would soon be no later one, and no clock shows such a
// time (it is of the year 2105).
const MaxIncarnation = 0xff000000 << 32

// NextIncarnation returns the number of a new incarnation: seconds and randomness, so that neither a bad clock nor a bad source
// alone repeats a name, but later than those before in any case.
func NextIncarnation(now time.Time, random uint32, before uint64) uint64 {
	if inc := uint64(now.Unix())<<32 | uint64(random); inc > before {
		return inc
	}
	return (before>>32+1)<<32 | uint64(random)
}

// ID returns the short form. It hashes, so callers on a hot path keep the result.
func (o Origin) ID() OriginID {
	sum := sha256.Sum256([]byte(o))
	return OriginID(binary.BigEndian.Uint32(sum[:4]))
}

// ValidRegion reports whether a region may bear this name: 1–32 of a–z, 0–9 and "-".
func ValidRegion(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Dot is an op's number: the f-th op that Origin issued in a partition, counting from 1 without gaps.
type Dot struct {
	Origin    Origin
	ID        OriginID // of Origin, kept because it takes a hash to compute
	Partition uint8
	F         uint64
}

// IsZero reports whether nothing was numbered.
func (d Dot) IsZero() bool { return d.F == 0 }
