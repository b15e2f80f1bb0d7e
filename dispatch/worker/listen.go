package worker

import (
	"context"
	"sync"
	"time"

	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

// maxReplies bounds the replies of one read.
const maxReplies = 256

// listen hands replies to the attempts that they are for, until ctx ends.
func (s *session) listen(ctx context.Context) {
	retry := s.cfg.backoff(50*time.Millisecond, 2*time.Second)
	for ctx.Err() == nil {
		if s.hear(ctx, s.cfg.Block) != nil {
			retry.Wait(ctx)
			continue
		}
		retry.Reset()
	}
}

// hear waits for replies up to block, and hands on those that came.
func (s *session) hear(ctx context.Context, block time.Duration) error {
	entries, err := stream.Read(ctx, s.control, s.keys.Control(), s.pos.String(), maxReplies, block)
	if err == nil && len(entries) == 0 {
		var again bool
		if again, err = stream.Rewound(ctx, s.redis, s.keys.Control(), s.pos); again {
			s.pos = stream.ID{}
		}
	}
	if err != nil {
		s.failed(ctx, "read control", err)
		return err
	}
	s.health.OK()
	for _, e := range entries {
		if id, err := stream.ParseID(e.ID); err == nil {
			s.pos = id
		}
		r := &workpb.Reply{}
		if err := stream.Decode(e, r); err != nil {
			s.cfg.Logger.Warn("reply passed over", "id", e.ID, "err", err)
			continue
		}
		s.route(r)
	}
	return nil
}

func (s *session) route(r *workpb.Reply) {
	s.mu.Lock()
	w := s.works[r.Nonce]
	s.mu.Unlock()
	if w != nil {
		w.box.put(r)
	}
}

// mailbox holds the last reply to an attempt: it says all that those before it said, but that the user asked for the
// end stays said.
type mailbox struct {
	arrived chan struct{} // holds one token while there is a reply

	mu   sync.Mutex // guards what follows
	last *workpb.Reply
}

func (m *mailbox) put(r *workpb.Reply) {
	m.mu.Lock()
	r.Stop = r.Stop || (m.last != nil && m.last.Stop)
	m.last = r
	m.mu.Unlock()
	select {
	case m.arrived <- struct{}{}:
	default:
	}
}

// take returns the reply that arrived; nil if it was taken before.
func (m *mailbox) take() *workpb.Reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.last
	m.last = nil
	return r
}
