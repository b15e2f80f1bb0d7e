package region

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	partBytes  = 256 << 10 // of keys and values in one message
	tableBytes = 64 << 20  // of keys and values in one staged table
	fetchPause = 200 * time.Millisecond
)

// checksum is over all keys and values of a state, in order.
type checksum struct {
	hash  hash.Hash
	count uint64
}

func newChecksum() *checksum { return &checksum{hash: sha256.New()} }

func (c *checksum) add(k, v []byte) {
	var n [8]byte
	binary.BigEndian.PutUint32(n[:4], uint32(len(k)))
	binary.BigEndian.PutUint32(n[4:], uint32(len(v)))
	c.hash.Write(n[:])
	c.hash.Write(k)
	c.hash.Write(v)
	c.count++
}

// State implements peerpb.NodeServer. It reads from a snapshot of the database: writes go on.
func (r *Region) State(req *peerpb.StateRequest, stream grpc.ServerStreamingServer[peerpb.StatePart]) error {
	g, err := r.meant(req.To, req.Group)
	if err != nil {
		return err
	}
	snap := g.store.Snapshot()
	defer snap.Close()
	applied, err := machine.AppliedIn(snap)
	if err != nil || applied < req.AtLeast {
		return status.Errorf(codes.Unavailable, "entry %d is not applied here: %v", req.AtLeast, err)
	}
	r.cfg.Logger.Info("a node takes the state", "group", g.n, "entry", applied)
	return sendState(snap, applied, stream.Send)
}

// sendState sends all keys of a state, in order, and then how many they were, and their sum.
func sendState(snap machine.Reader, applied uint64, send func(*peerpb.StatePart) error) error {
	sum, size, part := newChecksum(), 0, &peerpb.StatePart{Applied: applied}
	var cut error
	lo, hi := machine.Shared()
	err := snap.Scan(lo, hi, false, func(k, v []byte) bool {
		sum.add(k, v)
		part.Keys, part.Values = append(part.Keys, bytes.Clone(k)), append(part.Values, bytes.Clone(v))
		if size += len(k) + len(v); size >= partBytes {
			cut = send(part)
			size, part = 0, &peerpb.StatePart{}
		}
		return cut == nil
	})
	if err := errors.Join(err, cut); err != nil {
		return err
	}
	if len(part.Keys) > 0 {
		if err := send(part); err != nil {
			return err
		}
	}
	return send(&peerpb.StatePart{Applied: applied, Last: true, Count: sum.count, Sum: sum.hash.Sum(nil)})
}

// fetch replaces this node's state by another's that has applied at least index. It tries until that is done or the
// node stops, and runs on Raft's apply goroutine.
func (g *group) fetch(index uint64) error {
	for {
		for _, m := range g.sources() {
			start := time.Now()
			count, err := g.pull(g.r.stopping, m, index)
			if err == nil {
				g.r.metrics.transfers.Inc()
				g.r.cfg.Logger.Info("took the state of another node", "group", g.n, "from", m.ID, "keys", count, "took", time.Since(start))
				return nil
			}
			if isDisk(err) {
				g.r.fail(diskError("take the state of another node", err))
				return err
			}
			g.r.cfg.Logger.Warn("state of another node", "group", g.n, "from", m.ID, "err", err)
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

// pull stages a node's state in tables beside the database, and then swaps them in, all at once: with the state its
// applied index, cursors and digests.
func (g *group) pull(ctx context.Context, from wire.Member, index uint64) (count uint64, err error) {
	client, err := g.r.cfg.Cluster.Node(from.Addr)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.State(ctx, &peerpb.StateRequest{To: from.ID, AtLeast: index, Group: uint32(g.n)})
	if err != nil {
		return 0, err
	}
	st := &staging{fs: g.r.cfg.files(), dir: g.dir("staging"), prefix: g.store.prefix, db: g.r.db, intake: intake{sum: newChecksum()}}
	if err := st.clear(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.clear()) }()
	for !st.complete {
		part, err := stream.Recv()
		if err != nil {
			return 0, fmt.Errorf("cut short after %d keys: %w", st.sum.count, err)
		}
		if err := st.add(part); err != nil {
			return 0, err
		}
		g.r.metrics.transferred.Set(float64(st.sum.count))
	}
	taken := binary.BigEndian.AppendUint64(nil, st.applied)
	if err := errors.Join(g.r.db.Set(machine.NodeKey(g.named(nodeTaken)), taken, pebble.NoSync), g.r.flush()); err != nil {
		return 0, err
	}
	lo, hi := machine.Shared()
	_, err = g.r.db.IngestAndExcise(ctx, st.tables, nil, nil, pebble.KeyRange{Start: g.store.key(lo), End: g.store.key(hi)})
	return st.sum.count, err
}

// staging is a state on its way in.
type staging struct {
	intake
	fs     vfs.FS
	dir    string
	prefix []byte // of the keys in the database
	db     *pebble.DB
	tables []string
	writer *sstable.Writer
	size   int // of the table that is being written
}

// intake checks a state as it comes.
type intake struct {
	sum      *checksum
	last     []byte // key
	complete bool
	applied  uint64 // Raft index, once complete
}

// clear removes what is staged.
func (s *staging) clear() error {
	if s.writer != nil {
		s.writer.Close() // of an attempt that is given up
		s.writer = nil
	}
	if err := s.fs.RemoveAll(s.dir); err != nil {
		return err
	}
	return s.fs.MkdirAll(s.dir, 0o755)
}

var errState = errors.New("bad state")

func (s *staging) add(part *peerpb.StatePart) error {
	if err := s.take(part, s.set); err != nil || !s.complete {
		return err
	}
	return s.finish()
}

// take gives set the keys and values of a part, if it follows what came before.
func (s *intake) take(part *peerpb.StatePart, set func(k, v []byte) error) error {
	if len(part.Keys) != len(part.Values) {
		return fmt.Errorf("%w: %d keys, %d values", errState, len(part.Keys), len(part.Values))
	}
	lo, hi := machine.Shared()
	for i, k := range part.Keys {
		if bytes.Compare(k, s.last) <= 0 || bytes.Compare(k, lo) < 0 || bytes.Compare(k, hi) >= 0 {
			return fmt.Errorf("%w: keys are not in order", errState)
		}
		s.last = k
		s.sum.add(k, part.Values[i])
		if err := set(k, part.Values[i]); err != nil {
			return err
		}
	}
	if !part.Last {
		return nil
	}
	if part.Count != s.sum.count || !bytes.Equal(part.Sum, s.sum.hash.Sum(nil)) {
		return fmt.Errorf("%w: %d keys came, %d were sent, or their sums differ", errState, s.sum.count, part.Count)
	}
	s.complete, s.applied = true, part.Applied
	return nil
}

func (s *staging) set(k, v []byte) error {
	if s.writer == nil {
		path := filepath.Join(s.dir, fmt.Sprintf("%06d.sst", len(s.tables)))
		f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		s.tables, s.size = append(s.tables, path), 0
		s.writer = sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{TableFormat: s.db.TableFormat()})
	}
	at := append(slices.Clone(s.prefix), k...)
	if s.size += len(k) + len(v); s.size > tableBytes {
		return errors.Join(s.writer.Set(at, v), s.finish())
	}
	return s.writer.Set(at, v)
}

func (s *staging) finish() error {
	if s.writer == nil {
		return nil
	}
	err := s.writer.Close()
	s.writer = nil
	return err
}
