package region

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	fetchPause = 200 * time.Millisecond
	// takeIdle is how long a node that gives its state may send nothing before another one is asked.
	takeIdle = 3 * time.Second
)

// Taking is how far a node has come that takes the state of another one.
type Taking struct {
	Group int    `json:"group"`
	From  string `json:"from"` // raft id
	Keys  uint64 `json:"keys"`
	Bytes uint64 `json:"bytes"` // of keys and values
	// Own are the bytes of them that need not come: they are here from an earlier try, or unchanged since the node was away.
	Own     uint64 `json:"own"`
	Seconds uint64 `json:"seconds"` // since the first try
	Tries   uint64 `json:"tries"`
}

// fetch replaces this node's state by another's that has applied at least index. It tries until that is done or the
// node stops, and runs on Raft's apply goroutine.
func (g *group) fetch(index uint64) error {
	start := time.Now()
	defer g.taking.Store(nil)
	for try := uint64(1); ; {
		for _, m := range g.sources() {
			t := &taker{g: g, start: start, now: Taking{Group: g.n, From: m.ID, Tries: try}}
			try++
			err := t.pull(g.r.stopping, m, index)
			if err == nil {
				g.r.metrics.transfers.Inc()
				g.r.cfg.Logger.Info("took the state of another node", "group", g.n, "from", m.ID, "keys", t.now.Keys, "bytes", t.now.Bytes,
					"own", t.now.Own, "took", time.Since(start))
				return nil
			}
			if isDisk(err) {
				g.r.fail(diskError("take the state of another node", err))
				return err
			}
			g.r.cfg.Logger.Warn("state of another node", "group", g.n, "from", m.ID, "bytes", t.now.Bytes, "err", err)
		}
		select {
		case <-g.r.stopping.Done():
			return g.r.stopping.Err()
		case <-time.After(fetchPause):
		}
	}
}

// sources are the other nodes, the leader first.
func (g *group) sources() []wire.Member {
	lead, _ := g.leader.now()
	all := slices.DeleteFunc(g.r.alive(), func(m wire.Member) bool { return m.ID == g.r.id })
	slices.SortStableFunc(all, func(a, b wire.Member) int {
		switch lead {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return 0
	})
	return all
}

// taker is one try to take the state.
type taker struct {
	g     *group
	start time.Time // of the first try
	now   Taking
	st    *staging
	held  *holding
}

// pull stages a node's state in tables beside the database, and then swaps them in, all at once: with the state its
// applied index, cursors and digests. What is staged when it is cut short is of use for the next try.
func (t *taker) pull(ctx context.Context, from wire.Member, index uint64) (err error) {
	client, err := t.reach(ctx, from, index)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := t.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close(err)) }()
	idle := time.AfterFunc(takeIdle, cancel)
	defer idle.Stop()
	stream, err := client.State(ctx, &peerpb.StateRequest{To: from.ID, AtLeast: index, Group: uint32(t.g.n), Held: t.held.runs})
	if err != nil {
		return err
	}
	if err := t.receive(stream.Recv, idle); err != nil {
		if ctx.Err() != nil && t.g.r.stopping.Err() == nil {
			err = fmt.Errorf("it has sent nothing for %s", takeIdle)
		}
		return fmt.Errorf("cut short after %d keys: %w", t.now.Keys, err)
	}
	if t.st.applied < index {
		return fmt.Errorf("%w: it is of entry %d, and %d is needed", errState, t.st.applied, index)
	}
	return t.install(ctx)
}

// reach finds out whether a node is there and has what is needed, before all that is held is read to tell it.
func (t *taker) reach(ctx context.Context, from wire.Member, index uint64) (peerpb.NodeClient, error) {
	hello, err := t.g.r.hello(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("it is not reached: %w", err)
	}
	if applied := stateOf(hello, t.g.n).Applied; applied < index {
		return nil, fmt.Errorf("it has applied entry %d, and %d is needed", applied, index)
	}
	return t.g.r.cfg.Cluster.Node(from.Addr)
}

// receive takes what comes until all has. It is given up when nothing comes; a disk that is slow here does not count.
func (t *taker) receive(recv func() (*peerpb.StatePart, error), idle *time.Timer) error {
	for !t.st.complete {
		idle.Reset(takeIdle)
		part, err := recv()
		idle.Stop()
		if err == nil {
			err = t.take(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open finds out what is here already.
func (t *taker) open() (err error) {
	g := t.g
	dir := g.dir("staging")
	fs := g.r.cfg.files()
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if t.held, err = openHeld(fs, dir, g.store.prefix, g.store); err != nil {
		return err
	}
	t.st = &staging{fs: fs, dir: dir, try: t.held.tries + 1, prefix: g.store.prefix, db: g.r.db, intake: intake{sum: newChecksum()}}
	return nil
}

// take stages a part, and tells how far it has come.
func (t *taker) take(part *peerpb.StatePart) error {
	if len(part.Same) > 0 {
		lo, hi, err := t.held.find(part.Same)
		if err == nil && bytes.Compare(t.st.last, lo) >= 0 {
			err = fmt.Errorf("%w: a run whose place has been passed", errState)
		}
		if err != nil {
			return err
		}
		if err := t.held.scan(lo, hi, func(k, v []byte) error {
			t.now.Own += uint64(len(k) + len(v))
			return t.st.one(k, v, t.st.set)
		}); err != nil {
			return err
		}
	} else if err := t.st.add(part); err != nil {
		return err
	}
	t.now.Keys, t.now.Bytes, t.now.Seconds = t.st.sum.count, t.st.bytes, uint64(time.Since(t.start).Seconds())
	now := t.now
	t.g.taking.Store(&now)
	t.g.r.metrics.transferred.Set(float64(now.Keys))
	return t.held.pass(t.st.whole)
}

// unstage removes what is staged: the log goes back far enough after all.
func (g *group) unstage() error {
	if err := g.r.cfg.files().RemoveAll(g.dir("staging")); err != nil {
		return diskError("remove what is staged", err)
	}
	return nil
}

// install makes what is staged the state.
func (t *taker) install(ctx context.Context) error {
	g := t.g
	g.r.way.hurried.Add(1) // what is in the way of the tables is flushed
	defer g.r.way.hurried.Add(-1)
	taken := binary.BigEndian.AppendUint64(nil, t.st.applied)
	if err := errors.Join(g.r.db.Set(machine.NodeKey(g.named(nodeTaken)), taken, pebble.NoSync), g.r.flush()); err != nil {
		return err
	}
	lo, hi := machine.Shared()
	_, err := g.r.db.IngestAndExcise(ctx, t.st.tables, nil, nil, pebble.KeyRange{Start: g.store.key(lo), End: g.store.key(hi)})
	return err
}

// close keeps what the next try can use: nothing, if all has come, or what came is no state.
func (t *taker) close(why error) error {
	if why == nil || errors.Is(why, errState) || isDisk(why) {
		return errors.Join(t.held.close(), t.st.clear())
	}
	return errors.Join(t.st.finish(), t.held.pass(t.st.whole), t.held.close())
}
