package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// maxPart bounds a part: nodes send some hundred KiB, and one element more.
	maxPart = 64 << 20
	// maxMemory bounds what a file can have zstd take.
	maxMemory = 64 << 20
)

// Reader reads a backup. Nothing of it may be relied on before Next has returned io.EOF.
type Reader struct {
	Header Header

	body *body
	zip  *zstd.Decoder
	in   *bufio.Reader
	left int // groups
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{body: &body{r: bufio.NewReaderSize(r, chunk+sha256.Size), sum: sha256.New()}}
	plain := bufio.NewReaderSize(b.body, maxLine)
	h, err := decodeHeader(plain)
	if err != nil {
		return nil, err
	}
	b.Header, b.left = h, len(h.Applied)
	b.zip, err = zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMemory), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	b.in = bufio.NewReader(b.zip)
	return b, nil
}

// Close releases the reader.
func (b *Reader) Close() { b.zip.Close() }

// Next returns the next part of the group whose turn it is, and io.EOF after the last of the last group, if the file is whole.
func (b *Reader) Next() (*peerpb.StatePart, error) {
	size, err := binary.ReadUvarint(b.in)
	switch {
	case errors.Is(err, io.EOF) && b.left == 0:
		return nil, b.end()
	case err != nil:
		return nil, b.cut(err)
	case size > maxPart:
		return nil, fmt.Errorf("%w: a part of %d bytes", ErrDamaged, size)
	}
	var buf bytes.Buffer // grows with what is there, not with what is announced
	if n, err := io.CopyN(&buf, b.in, int64(size)); err != nil {
		return nil, b.cut(fmt.Errorf("%d of %d bytes of a part: %w", n, size, err))
	}
	p := &peerpb.StatePart{}
	if err := proto.Unmarshal(buf.Bytes(), p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if p.Last {
		b.left--
	}
	if b.left < 0 {
		return nil, fmt.Errorf("%w: there are more than %d groups", ErrDamaged, len(b.Header.Applied))
	}
	return p, nil
}

func (b *Reader) cut(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// end holds the file against its sum.
func (b *Reader) end() error {
	if _, err := io.Copy(io.Discard, b.body); err != nil {
		return b.cut(err)
	}
	if got, want := b.body.sum.Sum(nil), b.body.rest; !bytes.Equal(got, want) {
		return fmt.Errorf("%w: its SHA-256 is %x, it says %x", ErrDamaged, got, want)
	}
	return io.EOF
}

// chunk is how much body reads ahead.
const chunk = 64 << 10

// body is all of a file but the sum at its end, and sums it.
type body struct {
	r    *bufio.Reader
	sum  hash.Hash
	rest []byte // the end, once it is reached
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.rest != nil || len(p) == 0 {
		return 0, io.EOF
	}
	ahead, err := b.r.Peek(min(len(p), chunk) + sha256.Size)
	n := len(ahead) - sha256.Size
	switch {
	case n > 0:
		n = copy(p, ahead[:n])
		b.sum.Write(p[:n])
		_, err = b.r.Discard(n)
		return n, err
	case !errors.Is(err, io.EOF):
		return 0, err
	case n < 0:
		return 0, io.ErrUnexpectedEOF
	}
	b.rest = bytes.Clone(ahead)
	return 0, io.EOF
}
