package region

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// partBytes is of keys and values in one message.
const partBytes = 256 << 10

// checksum is over keys and values, in order.
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

func (c *checksum) sum() []byte { return c.hash.Sum(nil) }

// clone returns another that goes on from here.
func (c *checksum) clone() (*checksum, error) {
	h, err := c.hash.(hash.Cloner).Clone()
	return &checksum{h, c.count}, err
}

// State implements peerpb.NodeServer. It reads from a snapshot of the database: writes go on. What the caller has already is not sent.
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
	r.cfg.Logger.Info("a node takes the state", "group", g.n, "entry", applied, "runs_held", len(req.Held))
	return sendState(snap, applied, req.Held, func(p *peerpb.StatePart) error {
		g.keep.renew()
		return stream.Send(p)
	})
}

// sending is a state on its way out.
type sending struct {
	snap machine.Reader
	send func(*peerpb.StatePart) error
	sum  *checksum
	part *peerpb.StatePart
	size int // of part
}

// sendState sends all keys of a state, in order, but for runs that are held as they are; and then how many they are, and their sum.
func sendState(snap machine.Reader, applied uint64, held []*peerpb.Run, send func(*peerpb.StatePart) error) error {
	s := &sending{snap: snap, send: send, sum: newChecksum(), part: &peerpb.StatePart{Applied: applied}}
	lo, hi := machine.Shared()
	for _, run := range held {
		to := after(run.Last)
		if bytes.Compare(lo, to) >= 0 || bytes.Compare(to, hi) > 0 {
			return status.Error(codes.InvalidArgument, "the runs that are held are not in order")
		}
		if err := s.run(lo, to, run); err != nil {
			return err
		}
		lo = to
	}
	if err := errors.Join(s.content(lo, hi), s.flush()); err != nil {
		return err
	}
	// A state that this node itself takes from another meanwhile is swapped in below snapshots.
	if now, err := machine.AppliedIn(snap); err != nil || now != applied {
		return errors.Join(errReplaced, err)
	}
	return send(&peerpb.StatePart{Applied: applied, Last: true, Count: s.sum.count, Sum: s.sum.sum()})
}

var errReplaced = errors.New("the state was replaced meanwhile: ask again")

// after is the next key.
func after(k []byte) []byte { return append(bytes.Clone(k), 0) }

// run sends the keys from lo to before hi, unless the caller has them.
func (s *sending) run(lo, hi []byte, held *peerpb.Run) error {
	here := newChecksum()
	all, err := s.sum.clone()
	if err != nil {
		return fmt.Errorf("clone sum: %w", err)
	}
	if err := s.snap.Scan(lo, hi, false, func(k, v []byte) bool {
		here.add(k, v)
		all.add(k, v)
		return true
	}); err != nil {
		return err
	}
	if !bytes.Equal(here.sum(), held.Sum) {
		return s.content(lo, hi)
	}
	s.sum = all
	if err := s.flush(); err != nil {
		return err
	}
	return s.send(&peerpb.StatePart{Same: held.Last})
}

// content sends the keys from lo to before hi.
func (s *sending) content(lo, hi []byte) error {
	var cut error
	err := s.snap.Scan(lo, hi, false, func(k, v []byte) bool {
		s.sum.add(k, v)
		s.part.Keys, s.part.Values = append(s.part.Keys, bytes.Clone(k)), append(s.part.Values, bytes.Clone(v))
		if s.size += len(k) + len(v); s.size >= partBytes {
			cut = s.flush()
		}
		return cut == nil
	})
	return errors.Join(err, cut)
}

// flush sends what is waiting.
func (s *sending) flush() error {
	if len(s.part.Keys) == 0 {
		return nil
	}
	part := s.part
	s.part, s.size = &peerpb.StatePart{}, 0
	return s.send(part)
}
