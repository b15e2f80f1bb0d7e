// Package stream is what the leader's and the worker's side share of Redis Streams: the names of keys, clients that
// neither retry nor hide errors, and reading by position. It uses commands that Redis 6.2 and miniredis have.
package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"google.golang.org/protobuf/proto"
)

// Group is the consumer group of every jobs stream.
const Group = "workers"

// Field is the one field of every entry: it holds a message of workpb.
const Field = "m"

// Keys names a region's keys. The braces keep them on one slot of a Redis Cluster.
type Keys string

// KeysOf returns the names for a region.
func KeysOf(region string) Keys { return Keys("roam:{" + region + "}:") }

// Jobs is the stream of questions to a model; the empty model is the region's default.
func (k Keys) Jobs(model string) string { return string(k) + "jobs:" + model }

// Results is the stream of what workers report on sessions of a Raft group. Each has one, since each has a leader that reads
// it, and a position in it that is committed with what was read.
func (k Keys) Results(group uint32) string {
	if group == 0 {
		return string(k) + "results"
	}
	return fmt.Sprintf("%sresults:%d", k, group)
}

// Control is the stream of what leaders answer.
func (k Keys) Control() string { return string(k) + "control" }

// Worker is the key that lives as long as a worker does; its value lists the worker's models, one a line.
func (k Keys) Worker(name string) string { return string(k) + "worker:" + name }

// Workers is the set of the names of workers, living and dead: who is there is found without scanning a Redis that
// others share.
func (k Keys) Workers() string { return string(k) + "workers" }

// Timeouts of a connection to Redis.
const (
	dialTimeout = 2 * time.Second
	ioTimeout   = 3 * time.Second
)

// Open returns a client for a URL. It connects when it is first used. Commands are tried once: a retry can add an
// entry twice, and the caller knows better when that is harmless. nil dials the machine's network. With a dial of the
// caller's the client sets no deadlines, which follow the machine's clock: a command takes until its connection answers
// or is closed.
func Open(url string, conns int, dial Dial) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	o.PoolSize, o.MaxRetries, o.DialerRetries = conns, -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
	o.ContextTimeoutEnabled, o.DisableIdentity, o.Protocol = true, true, 2
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if dial != nil {
		byHand(o, dial)
	}
	return redis.NewClient(o), nil
}

// Entry returns the arguments that add a message to a stream.
func Entry(key string, m proto.Message) (*redis.XAddArgs, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m) // maps by key: what is sent follows from what is known
	if err != nil {
		return nil, fmt.Errorf("encode for %s: %w", key, err)
	}
	return &redis.XAddArgs{Stream: key, Values: []any{Field, b}}, nil
}

// ErrMalformed marks an entry that holds no message.
var ErrMalformed = errors.New("malformed entry")

// Decode reads an entry's message.
func Decode(e redis.XMessage, m proto.Message) error {
	s, ok := e.Values[Field].(string)
	if !ok {
		return fmt.Errorf("%w: no field %q", ErrMalformed, Field)
	}
	if err := proto.Unmarshal([]byte(s), m); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// NoWait as the block of a read: it takes what is there. Zero would wait for ever.
const NoWait = time.Duration(-1)

// Read returns the entries after a position, up to count. It waits up to block for the first one.
func Read(ctx context.Context, c *redis.Client, key, pos string, count int64, block time.Duration) ([]redis.XMessage, error) {
	got, err := c.XRead(ctx, &redis.XReadArgs{Streams: []string{key, pos}, Count: count, Block: block}).Result()
	if errors.Is(err, redis.Nil) || (err == nil && len(got) == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return got[0].Messages, nil
}

// Last returns the greatest id that a stream has given, Start if there is no stream.
func Last(ctx context.Context, c *redis.Client, key string) (ID, error) {
	info, err := c.XInfoStream(ctx, key).Result()
	switch {
	case NoKey(err):
		return ID{}, nil
	case err != nil:
		return ID{}, fmt.Errorf("info of %s: %w", key, err)
	case info.LastGeneratedID == "":
		return ID{}, nil
	}
	return ParseID(info.LastGeneratedID)
}

// Rewound reports whether a stream is not the one that pos was read from: it exists and has not come that far. That
// is so after Redis lost it and its clock is behind.
func Rewound(ctx context.Context, c *redis.Client, key string, pos ID) (bool, error) {
	last, err := Last(ctx, c, key)
	return err == nil && last != (ID{}) && last.Less(pos), err
}

// NoKey reports whether Redis said that a key does not exist.
func NoKey(err error) bool { return says(err, "ERR no such key") }

// NoGroup reports whether Redis said that the stream or its group does not exist.
func NoGroup(err error) bool { return says(err, "NOGROUP") || says(err, "UNBLOCKED") }

// GroupExists reports whether Redis refused to create a group because it is there.
func GroupExists(err error) bool { return says(err, "BUSYGROUP") }

func says(err error, prefix string) bool {
	var said redis.Error
	return errors.As(err, &said) && strings.HasPrefix(said.Error(), prefix)
}

// Refusal reports whether an error is Redis's answer, rather than a failure to get one.
func Refusal(err error) bool {
	var said redis.Error
	return errors.As(err, &said)
}
