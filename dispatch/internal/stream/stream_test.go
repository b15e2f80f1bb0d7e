package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/roamsync/roam/dispatch/internal/redistest"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, s *redistest.Server) *redis.Client {
	t.Helper()
	c, err := stream.Open(s.URL(), 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestReadByPosition(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		c, ctx := open(t, s), context.Background()
		if got, err := stream.Read(ctx, c, "k", "0-0", 10, time.Millisecond); len(got) != 0 || err != nil {
			t.Errorf("no stream: %v, %v", got, err)
		}
		if last, err := stream.Last(ctx, c, "k"); last != (stream.ID{}) || err != nil {
			t.Errorf("no stream: %v, %v", last, err)
		}
		var last string
		for range 3 {
			args, err := stream.Entry("k", &workpb.Reply{Run: "run-1", Len: 7})
			if err != nil {
				t.Fatal(err)
			}
			last = c.XAdd(ctx, args).Val()
		}
		got, err := stream.Read(ctx, c, "k", "0-0", 2, time.Millisecond)
		if err != nil || len(got) != 2 {
			t.Fatalf("%v, %v", got, err)
		}
		var r workpb.Reply
		if err := stream.Decode(got[0], &r); err != nil || r.Len != 7 {
			t.Errorf("%v, %v", &r, err)
		}
		if got, err := stream.Read(ctx, c, "k", got[1].ID, 2, time.Millisecond); err != nil || len(got) != 1 || got[0].ID != last {
			t.Errorf("%v, %v", got, err)
		}
		at, _ := stream.ParseID(last)
		if again, err := stream.Rewound(ctx, c, "k", at); again || err != nil {
			t.Errorf("at its end: rewound %v, %v", again, err)
		}
		at.Seq++
		if again, err := stream.Rewound(ctx, c, "k", at); !again || err != nil {
			t.Errorf("past its end: rewound %v, %v", again, err)
		}
	})
}

func TestClosingEndsABlockedRead(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		c := open(t, s)
		ended := make(chan error)
		go func() {
			_, err := stream.Read(context.Background(), c, "k", "0-0", 1, time.Minute)
			ended <- err
		}()
		ctx := context.Background()
		for s.Client().Do(ctx, "ping").Err() != nil || c.PoolStats().TotalConns == 0 {
		}
		c.Close()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the read succeeded")
			}
		case <-time.After(10 * time.Second):
			t.Error("the read goes on")
		}
	})
}

func TestRefusalsAreTold(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		c, ctx := open(t, s), context.Background()
		_, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: stream.Group, Consumer: "c", Streams: []string{"k", ">"}, Block: time.Millisecond}).Result()
		if !stream.NoGroup(err) || !stream.Refusal(err) {
			t.Errorf("no group: %v", err)
		}
		if err := c.XInfoGroups(ctx, "k").Err(); !stream.NoKey(err) {
			t.Errorf("no key: %v", err)
		}
		c.XGroupCreateMkStream(ctx, "k", stream.Group, "0")
		if err := c.XGroupCreateMkStream(ctx, "k", stream.Group, "0").Err(); !stream.GroupExists(err) {
			t.Errorf("group exists: %v", err)
		}
		s.Kill()
		if err := c.Ping(ctx).Err(); err == nil || stream.Refusal(err) {
			t.Errorf("dead: %v", err)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, e := range []redis.XMessage{{}, {Values: map[string]any{"x": "y"}}, {Values: map[string]any{stream.Field: "\xff"}}} {
		if err := stream.Decode(e, &workpb.Job{}); !errors.Is(err, stream.ErrMalformed) {
			t.Errorf("%v: %v", e, err)
		}
	}
}

func TestID(t *testing.T) {
	for _, s := range []string{"0-0", "5-7", "18446744073709551615-18446744073709551615"} {
		if id, err := stream.ParseID(s); err != nil || id.String() != s {
			t.Errorf("%s: %v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "5", "5-", "-5", "a-b", "5-6-7", "18446744073709551616-0"} {
		if _, err := stream.ParseID(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
	if a, b := (stream.ID{Millis: 9, Seq: 9}), (stream.ID{Millis: 10}); !a.Less(b) || b.Less(a) || a.Less(a) {
		t.Error("order")
	}
}

func TestBackoff(t *testing.T) {
	b := stream.Backoff{Min: 100, Max: 1000}
	for i, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		if d := b.Next(); d < want/2 || d > want {
			t.Errorf("wait %d is %d, want up to %d", i, d, want)
		}
	}
	b.Reset()
	if d := b.Next(); d > 100 {
		t.Errorf("after reset %d", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if (&stream.Backoff{Min: time.Hour, Max: time.Hour}).Wait(ctx) {
		t.Error("waited for a context that has ended")
	}
}

func TestHealthLogsTransitions(t *testing.T) {
	var out strings.Builder
	h := stream.Health{Log: slog.New(slog.NewTextHandler(&out, nil))}
	ctx := context.Background()
	h.OK()
	for range 3 {
		h.Failed(ctx, "read", errors.New("refused"))
	}
	h.OK()
	h.OK()
	h.Failed(ctx, "read", errors.New("refused again, too soon to be news"))
	h.OK()
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}
