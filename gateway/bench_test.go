package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// BenchmarkPut takes a put from its frame through a backend that does nothing but apply it, to the ok, over loopback: one
// round trip at a time, on many connections in turn so that none is over its rate. Client and server are both in it.
func BenchmarkPut(b *testing.B) {
	const conns = 512
	_, url := serve(b, newFake())
	var list []*dialed
	for i := range conns {
		d := dial(b, url)
		d.say(`{"t":"hello","id":1,"token":"dev:u%d","device":"d"}`, i)
		d.expect("welcome")
		list = append(list, d)
	}
	ctx := b.Context()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d := list[i%conns]
		frame := fmt.Appendf(nil, `{"t":"put","id":%d,"s":"u%d/s","ops":[{"k":"msg","oid":"o%d","text":"%0256d"}]}`, i, i%conns, i, i)
		if err := d.ws.Write(ctx, websocket.MessageText, frame); err != nil {
			b.Fatal(err)
		}
		if _, _, err := d.ws.Read(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFanOut brings one event to connections that have its session open, as far as their queues.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			g, _ := serve(b, newFake())
			h := g.hub
			var conns []*Conn
			for range n {
				c := &Conn{wake: newSocket().signal}
				h.add(&sub{conn: c, session: "alice/s", partition: crdt.PartitionOf("alice/s")})
				conns = append(conns, c)
			}
			events := []wire.Event{{Session: "alice/s", Changes: []wire.Change{{Op: &crdt.Op{}}}}}
			b.ReportAllocs()
			for b.Loop() {
				h.deliver(events)
				for _, c := range conns {
					c.queue = c.queue[:0]
				}
			}
		})
	}
}

// BenchmarkEncode is a piece of an answer, as it goes to each connection.
func BenchmarkEncode(b *testing.B) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	tok := &wire.Tok{T: "tok", S: "alice/s", Run: "0123456789abcdef", Ep: "00000001.beijing.1", Off: 1234, D: "a few words "}
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := enc.Encode(tok); err != nil {
			b.Fatal(err)
		}
	}
}
