package dispatch

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

// keepReplies is how long a reply stays in the control stream, in milliseconds of Redis's own clock. A worker that
// reads later than that asks again.
const keepReplies = 60_000

// control answers workers.
type control struct {
	redis *redis.Client
	key   string
	clock atomic.Uint64 // milliseconds of the newest id that Redis gave: its clock, by which the stream is trimmed
}

// send adds replies in one round trip. A lost reply costs a question: it is not retried.
func (c *control) send(ctx context.Context, replies []*workpb.Reply) error {
	if len(replies) == 0 {
		return nil
	}
	pipe := c.redis.Pipeline()
	cmds := make([]*redis.StringCmd, len(replies))
	for i, r := range replies {
		args, err := stream.Entry(c.key, r)
		if err != nil {
			return err
		}
		if now := c.clock.Load(); now > keepReplies {
			args.MinID, args.Approx = stream.ID{Millis: now - keepReplies}.String(), true
		}
		cmds[i] = pipe.XAdd(ctx, args)
	}
	_, err := pipe.Exec(ctx)
	if id, bad := stream.ParseID(cmds[len(cmds)-1].Val()); bad == nil {
		c.clock.Store(id.Millis)
	}
	return wrap("answer workers", err)
}

var verdicts = map[crdt.Verdict]workpb.Verdict{
	crdt.Accepted: workpb.Verdict_ACCEPTED, crdt.Known: workpb.Verdict_KNOWN, crdt.Gap: workpb.Verdict_GAP,
	crdt.Leased: workpb.Verdict_LEASED, crdt.Superseded: workpb.Verdict_SUPERSEDED, crdt.Closed: workpb.Verdict_CLOSED,
	crdt.Unknown: workpb.Verdict_UNKNOWN,
}

var kinds = map[crdt.Kind]workpb.Kind{
	crdt.KindBegin: workpb.Kind_BEGIN, crdt.KindChunk: workpb.Kind_CHUNK, crdt.KindDone: workpb.Kind_DONE,
}

func reply(op *crdt.Op, nonce string, h crdt.Held) *workpb.Reply {
	return &workpb.Reply{
		Run: op.Run, Nonce: nonce, To: kinds[op.Kind], Verdict: verdicts[h.Verdict],
		Attempt: h.Attempt.String(), Len: h.Len, Stop: h.Stop,
	}
}

// latest keeps of the replies to one attempt only the last: it says all that those before it said.
func latest(replies []*workpb.Reply) []*workpb.Reply {
	at := map[string]int{}
	for i, r := range replies {
		at[r.Nonce] = i
	}
	kept := replies[:0]
	for i, r := range replies {
		if at[r.Nonce] == i {
			kept = append(kept, r)
		}
	}
	return kept
}
