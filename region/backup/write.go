package backup

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/wire/peerpb"
)

// Writer writes a backup.
type Writer struct {
	out  io.Writer
	sum  hash.Hash
	zip  *zstd.Encoder
	left int // groups
}

// NewWriter begins a backup. The parts of each group follow, in the header's order.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	head, err := h.encode()
	if err != nil {
		return nil, err
	}
	b := &Writer{out: w, sum: sha256.New(), left: len(h.Applied)}
	both := io.MultiWriter(w, b.sum)
	if _, err := both.Write(head); err != nil {
		return nil, err
	}
	b.zip, err = zstd.NewWriter(both, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	return b, err
}

// window is how far back zstd refers: what reading takes of memory.
const window = 1 << 20

// Part writes a part of the group whose turn it is; the last of a group ends it.
func (b *Writer) Part(p *peerpb.StatePart) error {
	body, err := proto.Marshal(p)
	if err != nil {
		return fmt.Errorf("part of a backup: %w", err)
	}
	if p.Last {
		b.left--
	}
	_, err = b.zip.Write(protowire.AppendBytes(nil, body))
	return err
}

// Close ends the backup. One that is not closed does not read; nothing has to be released of it.
func (b *Writer) Close() error {
	if b.left != 0 {
		return fmt.Errorf("%d groups are missing", b.left)
	}
	if err := b.zip.Close(); err != nil {
		return err
	}
	_, err := b.out.Write(b.sum.Sum(nil))
	return err
}
