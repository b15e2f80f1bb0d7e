package backup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Version is the newest format that is read, and the one that is written.
const Version = 1

const (
	magic = "roam backup "
	// maxLine bounds each of the two lines that a file begins with.
	maxLine = 64 << 10
	// maxGroups bounds what a header may say.
	maxGroups = 64
)

var (
	// ErrDamaged: the file is not what was written.
	ErrDamaged = errors.New("the backup is damaged or not whole")
	// ErrNewer: a newer version of roam wrote the file.
	ErrNewer = errors.New("a newer version of roam made this backup: restore it with that version")
)

// Header says what a backup is of.
type Header struct {
	Region  string    `json:"region"`
	Node    string    `json:"node"`    // that it was taken from
	Time    time.Time `json:"time"`    // when it was taken
	Level   uint32    `json:"level"`   // newest format of a Raft entry that the node applied
	Applied []uint64  `json:"applied"` // Raft index of each group's state
	// Behind: the node did not know of a leader that it had caught up with, so what other nodes had acknowledged may be missing.
	Behind bool `json:"behind"`
}

func (h *Header) encode() ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("backup header: %w", err)
	}
	return append(append(fmt.Appendf(nil, "%s%d\n", magic, Version), line...), '\n'), nil
}

func decodeHeader(r *bufio.Reader) (h Header, err error) {
	first, err := line(r)
	if err != nil {
		return h, err
	}
	version, ok := bytes.CutPrefix(first, []byte(magic))
	n, bad := strconv.Atoi(string(version))
	switch {
	case !ok:
		return h, fmt.Errorf("%w: it does not begin as a backup of roam does", ErrDamaged)
	case bad != nil || n < 1:
		return h, fmt.Errorf("%w: the version is %.20q", ErrDamaged, version)
	case n > Version:
		return h, fmt.Errorf("%w: its format is %d, this version reads up to %d", ErrNewer, n, Version)
	}
	second, err := line(r)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(second, &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrDamaged, err)
	}
	if len(h.Applied) == 0 || len(h.Applied) > maxGroups {
		return h, fmt.Errorf("%w: header: %d groups", ErrDamaged, len(h.Applied))
	}
	return h, nil
}

// line reads up to a newline, which it leaves out.
func line(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: it does not begin as a backup of roam does: %w", ErrDamaged, err)
	}
	return bytes.Clone(b[:len(b)-1]), nil
}
