package replication

import (
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	// bundleBytes is about what a message with records of several feeds holds: so much is compressed at a time.
	bundleBytes = 128 << 10
	// leastPacked is from how many bytes on a message is compressed: below, it would not pay.
	leastPacked = 512
	// packWindow is how far back zstd refers.
	packWindow = 128 << 10
)

// packer compresses and decompresses messages, for all streams of a node.
type packer struct {
	enc   *zstd.Encoder
	dec   *zstd.Decoder
	least int // bytes from which on a message is compressed
	bytes *prometheus.CounterVec
}

func newPacker() (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(packWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	// What claims to be larger than any message is refused before memory is taken for it.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMessage))
	if err != nil {
		return nil, fmt.Errorf("decompression: %w", err)
	}
	return &packer{enc, dec, leastPacked, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roam_replication_feed_bytes_total",
		Help: "Bytes of records sent to other regions: plain, as they are; sent, after compression where it paid.",
	}, []string{"region", "form"})}, nil
}

// shrink returns a bundle as it is to be sent: compressed if that saves an eighth.
func (p *packer) shrink(b *peerpb.Bundle) (small *peerpb.Bundle, plain, sent int, err error) {
	plain = proto.Size(b)
	if plain < p.least {
		return b, plain, plain, nil
	}
	raw, err := proto.Marshal(b)
	if err != nil {
		return nil, 0, 0, err
	}
	packed := p.enc.EncodeAll(raw, make([]byte, 0, plain/2))
	if len(packed) > plain-plain/8 {
		return b, plain, plain, nil
	}
	return &peerpb.Bundle{Zstd: packed}, plain, len(packed), nil
}

// grow is the inverse of shrink. It takes no more memory than the largest message has.
func (p *packer) grow(b *peerpb.Bundle) (*peerpb.Bundle, error) {
	if len(b.Zstd) == 0 {
		return b, nil
	}
	raw, err := p.dec.DecodeAll(b.Zstd, nil)
	if err == nil && len(raw) > maxMessage {
		err = zstd.ErrDecoderSizeExceeded
	}
	if err != nil {
		return nil, fmt.Errorf("%w: compressed records: %w", feeds.ErrMessage, err)
	}
	plain := &peerpb.Bundle{}
	if err := proto.Unmarshal(raw, plain); err != nil {
		return nil, fmt.Errorf("%w: compressed records: %w", feeds.ErrMessage, err)
	}
	if len(plain.Zstd) > 0 {
		return nil, fmt.Errorf("%w: compressed twice", feeds.ErrMessage)
	}
	return plain, nil
}

// queue has a message sent: at once, or, if it is records that others may go with, with these.
func (s *server) queue(have *peerpb.Have) error {
	r := have.Records
	if r == nil {
		if err := s.flush(); err != nil {
			return err
		}
		return s.stream.Send(have)
	}
	s.spans = append(s.spans, s.l.crossings("send", trace.SpanKindProducer, s.region, &wire.Records{
		Origin: crdt.Origin(r.Origin), Partition: uint8(r.Partition), From: r.From, Records: r.Records,
	})...)
	s.batch.Records = append(s.batch.Records, r)
	for _, b := range r.Records {
		s.size += len(b)
	}
	if !s.bundles || s.size >= bundleBytes {
		return s.flush()
	}
	return nil
}

// flush sends the records that were queued.
func (s *server) flush() error {
	if len(s.batch.Records) == 0 {
		return nil
	}
	b, spans := s.batch, s.spans
	s.batch, s.size, s.spans, s.sent = &peerpb.Bundle{}, 0, nil, time.Now()
	if s.bundles {
		feeds.Shorten(b.Records)
	}
	have := &peerpb.Have{Bundle: b}
	plain, sent := 0, 0
	var err error
	switch {
	case !s.bundles: // one at a time
		have = &peerpb.Have{Records: b.Records[0]}
		plain = proto.Size(have.Records)
		sent = plain
	case s.zstd:
		have.Bundle, plain, sent, err = s.l.pack.shrink(b)
	default:
		plain = proto.Size(b)
		sent = plain
	}
	if err == nil {
		s.l.pack.bytes.WithLabelValues(s.region, "plain").Add(float64(plain))
		s.l.pack.bytes.WithLabelValues(s.region, "sent").Add(float64(sent))
		err = s.stream.Send(have)
	}
	end(spans, err)
	return err
}

// takeBundle takes records of several feeds.
func (k *link) takeBundle(b *peerpb.Bundle) error {
	b, err := k.l.pack.grow(b)
	if err != nil {
		k.l.metrics.refused.WithLabelValues("compressed").Inc()
		return err
	}
	feeds.Lengthen(b.Records)
	return k.takeRecords(b.Records)
}
