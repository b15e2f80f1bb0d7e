package replication

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// TestWireCost: what an op costs between two regions at 2,000 a second, in bytes that TCP carries both ways, acknowledgements and heads
// included, whatever the number of ops that are committed at a time.
func TestWireCost(t *testing.T) {
	for _, batch := range []int{1, 2, 10, 40} {
		for _, zstd := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d at a time, compressed %t", batch, zstd), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { wireCost(t, batch, zstd) })
			})
		}
	}
}

func wireCost(t *testing.T, batch int, zstd bool) {
	r := newRig(t)
	if !zstd {
		r.served.pack.least = maxMessage
	}
	time.Sleep(time.Second) // in fake time: the link is up
	in, out := r.in.Load(), r.out.Load()
	rng, ops, size, committed := rand.New(rand.NewPCG(1, 2)), 4000, 0, uint64(0)
	for i := 0; i < ops; i += batch {
		var all []wire.Records
		for j := range batch {
			record, op := aRecord(rng, i+j)
			size += op
			all = append(all, wire.Records{Origin: r.writer.self, Partition: uint8(rng.IntN(crdt.Partitions)), Records: [][]byte{record}})
		}
		r.writer.commit(all...)
		time.Sleep(time.Duration(batch) * time.Second / 2000)
	}
	time.Sleep(time.Second)
	for p := range uint8(crdt.Partitions) {
		committed += r.reader.Cursors(p)[r.writer.self.ID()]
	}
	if committed != uint64(ops) {
		t.Fatalf("%d of %d ops have come", committed, ops)
	}
	op := float64(size) / float64(ops)
	forth, back := float64(r.in.Load()-in)/float64(ops), float64(r.out.Load()-out)/float64(ops)
	t.Logf("an op of %.0f bytes costs %.0f, and %.0f back: %.2f of it", op, forth, back, (forth+back)/op)
	if limit := 1.15*op + 24; forth+back > limit {
		t.Errorf("an op of %.0f bytes costs %.0f bytes; %.0f are allowed", op, forth+back, limit)
	}
}

// TestBombs: what grows beyond a message, or is no message, is refused, and costs no more memory than a message.
func TestBombs(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	big := &peerpb.Bundle{Records: []*peerpb.Records{{Records: [][]byte{make([]byte, 4*maxMessage)}}}}
	raw, err := proto.Marshal(big)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := proto.Marshal(&peerpb.Bundle{Zstd: p.enc.EncodeAll([]byte("x"), nil)})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a bomb": p.enc.EncodeAll(raw, nil), "twice": p.enc.EncodeAll(twice, nil), "noise": []byte("no zstd"), "no message": p.enc.EncodeAll([]byte{0xff}, nil),
	} {
		if _, err := p.grow(&peerpb.Bundle{Zstd: b}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestShrinks: what comes out is what went in; small messages, and such that do not get smaller, go as they are.
func TestShrinks(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	rng, noise := rand.New(rand.NewPCG(1, 2)), make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for name, c := range map[string]struct {
		records [][]byte
		packed  bool
	}{"small": {[][]byte{make([]byte, 100)}, false}, "noise": {[][]byte{noise}, false}, "text": {someRecords(rng, 50), true}} {
		b := &peerpb.Bundle{Records: []*peerpb.Records{{Id: 7, From: 3, Records: c.records}}}
		small, plain, sent, err := p.shrink(b)
		if err != nil || (len(small.Zstd) > 0) != c.packed || (sent < plain) != c.packed {
			t.Errorf("%s: %d bytes become %d, %v", name, plain, sent, err)
		}
		if back, err := p.grow(small); err != nil || !proto.Equal(back, b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func someRecords(rng *rand.Rand, n int) (all [][]byte) {
	for i := range n {
		record, _ := aRecord(rng, i)
		all = append(all, record)
	}
	return all
}

// BenchmarkShrink: compression of so many messages at a time, there and back.
func BenchmarkShrink(b *testing.B) {
	p, err := newPacker()
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{2, 10, 100, 400} {
		bundle := &peerpb.Bundle{Records: []*peerpb.Records{{Id: 7, Records: someRecords(rand.New(rand.NewPCG(1, 2)), n)}}}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var plain, sent int
			for b.Loop() {
				var small *peerpb.Bundle
				if small, plain, sent, err = p.shrink(bundle); err == nil {
					_, err = p.grow(small)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(sent)/float64(plain), "size")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/op-of-a-client")
		})
	}
}
