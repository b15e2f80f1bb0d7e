package crdt

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// writer is a region that a benchmark writes its feeds with.
func writer(name string) *replica {
	o := NewOrigin(name, 1)
	return &replica{name: name, origin: o, id: o.ID(), st: NewMem(), seen: Vector{}, now: time.UnixMilli(1_700_000_000_000)}
}

var words = strings.Repeat("some words of a message, ", 11)[:256]

// say issues the n-th message, of 256 bytes, with questions to models.
func (r *replica) say(n int, models ...string) {
	r.client(Op{Kind: KindMsg, OID: fmt.Sprintf("01J%s%020d", r.name, n), Role: "user", Text: words, Models: models})
}

func (r *replica) client(op Op) {
	op.Session, op.User, op.Device = "alice/trip", "alice", "phone"
	r.now = r.now.Add(time.Millisecond)
	if err := r.put(op, Floor{}); err != nil {
		panic(err)
	}
}

func (r *replica) worker(op Op) {
	op.Session, op.Nonce = "alice/trip", "01JWORKER"
	if held := r.report(op); held.Verdict != Accepted {
		panic(held)
	}
}

// answer issues an answer of n pieces to the only open question; without end it stays open.
func (r *replica) answer(n int, end bool) {
	run := OpenRuns(r.st)[0]
	r.worker(Op{Kind: KindBegin, Run: run, Model: "echo"})
	for i := range n {
		r.worker(Op{Kind: KindChunk, Run: run, Off: uint64(i * 6), Text: "token "})
	}
	if end {
		r.worker(Op{Kind: KindDone, Run: run, State: RunDone, Fin: "end", Off: uint64(n * 6)})
	}
}

// feeds has one feed of n ops for each kind, after what such ops need to be there.
var feeds = []struct {
	kind  Kind
	write func(r *replica, n int) (before int)
}{
	{KindMsg, func(r *replica, n int) int { return r.each(0, n, func(i int) { r.say(i) }) }},
	{KindRun, func(r *replica, n int) int {
		r.say(0)
		return r.each(1, n, func(i int) { r.on(Op{Kind: KindRun, Model: "echo"}, i, 0) })
	}},
	{KindStop, func(r *replica, n int) int {
		r.say(0, "echo")
		return r.each(1, n, func(i int) { r.client(Op{Kind: KindStop, OID: fmt.Sprintf("01Js%020d", i)}) })
	}},
	{KindSet, func(r *replica, n int) int {
		return r.each(0, n, func(i int) {
			r.client(Op{Kind: KindSet, OID: fmt.Sprintf("01Jk%020d", i), Key: fmt.Sprintf("key %d", i%16), Value: []byte(`"a value"`)})
		})
	}},
	{KindEdit, func(r *replica, n int) int {
		return r.each(r.messages(16), n, func(i int) { r.on(Op{Kind: KindEdit, Text: words}, i, i%16) })
	}},
	{KindDel, func(r *replica, n int) int {
		return r.each(r.messages(n), n, func(i int) { r.on(Op{Kind: KindDel}, i, i) })
	}},
	{KindReact, func(r *replica, n int) int {
		return r.each(r.messages(16), n, func(i int) { r.on(Op{Kind: KindReact, Key: "+1", On: i%2 == 0}, i, i%16) })
	}},
	{KindRead, func(r *replica, n int) int {
		return r.each(r.messages(n), n, func(i int) {
			r.client(Op{Kind: KindRead, OID: fmt.Sprintf("01Jq%020d", i), ReadSeq: uint64(i)})
		})
	}},
	{KindBegin, func(r *replica, n int) int {
		return r.each(r.questions(n), n, func(i int) { r.worker(Op{Kind: KindBegin, Run: r.run(i), Model: "echo"}) })
	}},
	{KindChunk, func(r *replica, n int) int {
		r.say(0, "echo")
		r.answer(n, false)
		return 2
	}},
	{KindDone, func(r *replica, n int) int {
		before := r.questions(n)
		for i := range n {
			r.worker(Op{Kind: KindBegin, Run: r.run(i), Model: "echo"})
			r.worker(Op{Kind: KindChunk, Run: r.run(i), Text: words})
		}
		return r.each(before+2*n, n, func(i int) {
			r.worker(Op{Kind: KindDone, Run: r.run(i), State: RunDone, Fin: "end", Off: uint64(len(words))})
		})
	}},
}

func (r *replica) each(before, n int, do func(int)) int {
	for i := range n {
		do(i)
	}
	return before
}

func (r *replica) messages(n int) int { return r.each(n, n, func(i int) { r.say(i) }) }

func (r *replica) questions(n int) int { return r.each(n, n, func(i int) { r.say(i, "echo") }) }

// run is the answer to the i-th message.
func (r *replica) run(i int) string { return RunID(fmt.Sprintf("01J%s%020d", r.name, i), "echo", "0") }

// on issues an op on the i-th message.
func (r *replica) on(op Op, n, i int) {
	op.OID, op.Of = fmt.Sprintf("01Jo%020d", n), fmt.Sprintf("01J%s%020d", r.name, i)
	r.client(op)
}

// perKind runs a benchmark over each kind's feed.
func perKind(b *testing.B, run func(b *testing.B, before, feed []record)) {
	for _, f := range feeds {
		r := writer("beijing")
		before := f.write(r, 1000)
		b.Run(f.kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			run(b, r.feed[:before], r.feed[before:])
		})
	}
}

// BenchmarkApply applies ops of one kind to a session that has up to a thousand of them.
func BenchmarkApply(b *testing.B) {
	perKind(b, func(b *testing.B, before, feed []record) {
		start := NewMem()
		for _, rec := range before {
			Apply(start, rec.op, rec.dot)
		}
		var st *Mem
		for i := 0; b.Loop(); i++ {
			if i%len(feed) == 0 {
				st = start.Clone()
			}
			Apply(st, feed[i%len(feed)].op, feed[i%len(feed)].dot)
		}
	})
}

// BenchmarkEncodeOp reports what the encoding adds to what the client or the worker gave: overhead-B.
func BenchmarkEncodeOp(b *testing.B) {
	perKind(b, func(b *testing.B, _, feed []record) {
		op, size := feed[len(feed)-1].op, 0
		for b.Loop() {
			size = len(op.Encode())
		}
		b.ReportMetric(float64(size-payload(op)), "overhead-B")
	})
}

// payload is the bytes of an op that came from outside, each as it is.
func payload(op *Op) (n int) {
	for _, s := range []string{
		op.Session, op.OID, op.User, op.Device, op.Role, op.Text, op.Key, op.Of, op.Run, op.Nonce, op.Model, op.Fin,
		string(op.Value),
	} {
		n += len(s)
	}
	return n
}

func BenchmarkDecodeOp(b *testing.B) {
	perKind(b, func(b *testing.B, _, feed []record) {
		enc := feed[len(feed)-1].op.Encode()
		for b.Loop() {
			if _, err := DecodeOp(enc); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// talk is a session of n ops: questions and their answers of 20 pieces, and what else people do; plain is messages only.
func talk(r *replica, n int) {
	for i := 0; len(r.feed) < n; i++ {
		r.say(i, "echo")
		r.answer(20, true)
		r.on(Op{Kind: KindReact, Key: "+1", On: true}, i, i)
		r.client(Op{Kind: KindRead, OID: fmt.Sprintf("01Jq%s%020d", r.name, i), ReadSeq: uint64(2 * i)})
	}
}

func plain(r *replica, n int) { r.messages(n) }

// BenchmarkMerge merges a copy with 10,000 ops into one that is empty, has them, or has another 10,000; ns/source-op
// counts those of the source.
func BenchmarkMerge(b *testing.B) {
	const n = 10_000
	for _, kind := range []struct {
		name  string
		write func(*replica, int)
	}{{"messages", plain}, {"talk", talk}} {
		src, other := writer("beijing"), writer("shanghai")
		kind.write(src, n)
		kind.write(other, n)
		for _, into := range []struct {
			name string
			dst  *Mem
		}{{"empty", NewMem()}, {"same", src.st}, {"other", other.st}} {
			b.Run(kind.name+"/into="+into.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Merge(into.dst.Clone(), src.st)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(src.feed)), "ns/source-op")
			})
		}
	}
}

// BenchmarkEncodeSession makes the canonical bytes of a session of 10,000 ops.
func BenchmarkEncodeSession(b *testing.B) {
	r := writer("beijing")
	talk(r, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(Encode(r.st))))
	}
}

// BenchmarkLong reads a session of 100,000 messages: what a client lacks that was away for 20 of them, or has nothing;
// and a page of 50.
func BenchmarkLong(b *testing.B) {
	const n = 100_000
	r := writer("beijing")
	plain(r, n)
	for _, missing := range []int{20, n} {
		b.Run(fmt.Sprintf("since/missing=%d", missing), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := Since(r.st, Vector{r.id: uint64(n - missing)}); len(got) != missing {
					b.Fatal(len(got))
				}
			}
		})
	}
	for name, before := range map[string]uint64{"last": 0, "middle": n / 2} {
		b.Run("page/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if log, more := Page(r.st, before, 50); len(log) != 50 || !more {
					b.Fatal(len(log), more)
				}
			}
		})
	}
}
