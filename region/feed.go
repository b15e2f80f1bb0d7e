package region

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// Feed returns records of a feed from one position on: at least one if there is one, up to maxBytes.
func (r *Region) Feed(origin crdt.Origin, partition uint8, from uint64, maxBytes int) (wire.Records, error) {
	rs, id, size := wire.Records{Origin: origin, Partition: partition, From: from}, origin.ID(), 0
	head := r.Cursors(partition)[id]
	if from > head {
		return rs, nil
	}
	err := scan(r.db, feedKey(partition, id, from), feedKey(partition, id, head+1), func(_, v []byte) error {
		if size += len(v); size > maxBytes && len(rs.Records) > 0 {
			return errEnough
		}
		rs.Hash = wire.Hash(v[:len(rs.Hash)])
		rs.Records = append(rs.Records, bytes.Clone(v[len(rs.Hash):]))
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return rs, fmt.Errorf("read feed: %w", err)
	}
	return rs, nil
}

var errEnough = errors.New("enough")

// Position returns the running hash of a feed at f, if that is held here.
func (r *Region) Position(origin crdt.Origin, partition uint8, f uint64) (wire.Position, bool) {
	if f == 0 {
		return wire.Position{Hash: wire.FeedStart(origin, partition)}, true
	}
	v, err := get(r.db, feedKey(partition, origin.ID(), f))
	if err != nil || len(v) < len(wire.Hash{}) {
		return wire.Position{}, false
	}
	return wire.Position{F: f, Hash: wire.Hash(v[:len(wire.Hash{})])}, true
}

// Open returns the answers that are not closed, and the position up to which results were read.
func (r *Region) Open() (runs []wire.OpenRun, position string, err error) {
	snap := r.db.NewSnapshot()
	defer snap.Close()
	pos, err := get(snap, metaKey(metaResults))
	if err != nil {
		return nil, "", fmt.Errorf("read position: %w", err)
	}
	err = scan(snap, []byte{spaceOpen}, []byte{spaceOpen + 1}, func(k, _ []byte) error {
		session, run, _ := bytes.Cut(k[2:], []byte{0})
		runs = append(runs, wire.OpenRun{Session: string(session), Run: string(run)})
		return nil
	})
	return runs, string(pos), err
}

// Peers returns the other regions ever met.
func (r *Region) Peers() []string {
	var all []string
	lo := metaKey(metaPeer)
	if err := scan(r.db, lo, upper(lo), func(k, _ []byte) error {
		all = append(all, string(k[len(lo):]))
		return nil
	}); err != nil {
		r.fail(fmt.Errorf("read peers: %w", err))
	}
	return all
}

// Digest returns the sum of a partition's state: regions with equal cursors have equal digests.
func (r *Region) Digest(partition uint8) (uint64, error) {
	v, err := get(r.db, partitionKey(spaceDigest, partition))
	if err != nil || v == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}
