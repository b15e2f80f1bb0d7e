package stream

import (
	"fmt"
	"strconv"
	"strings"
)

// ID is a stream entry's id; the zero value precedes every entry.
type ID struct {
	Millis, Seq uint64
}

// ParseID reads "millis-seq".
func ParseID(s string) (ID, error) {
	ms, seq, ok := strings.Cut(s, "-")
	m, err := strconv.ParseUint(ms, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || err2 != nil {
		return ID{}, fmt.Errorf("stream id %q is not millis-seq", s)
	}
	return ID{m, n}, nil
}

// String is the inverse of ParseID.
func (id ID) String() string {
	return strconv.FormatUint(id.Millis, 10) + "-" + strconv.FormatUint(id.Seq, 10)
}

// Less orders ids as a stream does.
func (id ID) Less(o ID) bool {
	return id.Millis < o.Millis || (id.Millis == o.Millis && id.Seq < o.Seq)
}
