package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// View lets read look at one session as it is at this moment. The store is read only, and ends with read.
func (m *Machine) View(session string, read func(crdt.Store)) error {
	snap := m.cfg.Store.Snapshot()
	st := &sessionStore{read: snap, prefix: sessionPrefix(crdt.PartitionOf(session), session)}
	read(st)
	if err := errors.Join(st.err, snap.Close()); err != nil {
		return fmt.Errorf("read session: %w", err)
	}
	return nil
}

// Feed returns records of a feed from one position on: at least one if there is one, up to maxBytes. Those below the
// feed's floor are not held: wire.ErrFloor. The records are not to be changed.
func (m *Machine) Feed(origin crdt.Origin, partition uint8, from uint64, maxBytes int) (wire.Records, error) {
	rs, id, size := wire.Records{Origin: origin, Partition: partition, From: from}, origin.ID(), 0
	head := m.Cursors(partition)[id]
	if from > head || m.recent.read(&rs, feed{id, partition}, head, maxBytes) {
		return rs, nil
	}
	err := m.cfg.Store.Scan(feedKey(partition, id, from), feedKey(partition, id, head+1), false, func(k, v []byte) bool {
		if len(rs.Records) == 0 && !bytes.Equal(k, feedKey(partition, id, from)) {
			return false // those before are gone
		}
		if size += len(v); size > maxBytes && len(rs.Records) > 0 {
			return false
		}
		rs.Hash = wire.Hash(v[:len(rs.Hash)])
		rs.Records = append(rs.Records, bytes.Clone(v[len(rs.Hash):]))
		return true
	})
	if err != nil {
		return rs, fmt.Errorf("read feed: %w", err)
	}
	if len(rs.Records) == 0 {
		return rs, fmt.Errorf("%s partition %d from %d: %w", origin, partition, from, wire.ErrFloor)
	}
	return rs, nil
}

// Position returns the running hash of a feed at f, if that is held here, as it is from the floor on.
func (m *Machine) Position(origin crdt.Origin, partition uint8, f uint64) (wire.Position, bool) {
	if f == 0 {
		return wire.Position{Hash: wire.FeedStart(origin, partition)}, true
	}
	v, err := m.cfg.Store.Get(feedKey(partition, origin.ID(), f))
	if err != nil || len(v) < len(wire.Hash{}) {
		floor := m.Floor(origin, partition)
		return floor, err == nil && f == floor.F
	}
	return wire.Position{F: f, Hash: wire.Hash(v[:len(wire.Hash{})])}, true
}

// Open returns the answers that are not closed, and the position up to which results were read.
func (m *Machine) Open() (runs []wire.OpenRun, position string, err error) {
	snap := m.cfg.Store.Snapshot()
	pos, err := snap.Get(MetaKey(metaResults))
	err = errors.Join(err, snap.Scan([]byte{spaceOpen}, []byte{spaceOpen + 1}, false, func(k, _ []byte) bool {
		session, run, _ := bytes.Cut(k[2:], []byte{0})
		runs = append(runs, wire.OpenRun{Session: string(session), Run: string(run)})
		return true
	}), snap.Close())
	if err != nil {
		return nil, "", fmt.Errorf("read open answers: %w", err)
	}
	return runs, string(pos), nil
}

// Peers returns the other regions ever met.
func (m *Machine) Peers() (all []string, err error) {
	lo := MetaKey(metaPeer)
	err = m.cfg.Store.Scan(lo, upper(lo), false, func(k, _ []byte) bool {
		all = append(all, string(k[len(lo):]))
		return true
	})
	return all, err
}

// Digest returns the sum of a partition's state: regions with equal cursors have equal digests.
func (m *Machine) Digest(partition uint8) (uint64, error) {
	v, err := m.cfg.Store.Get(partitionKey(spaceDigest, partition))
	if err != nil || v == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// Recompute works out a partition's digest from what it holds: Digest, unless the two have come apart.
func (m *Machine) Recompute(partition uint8) (sum uint64, err error) {
	err = m.cfg.Store.Scan([]byte{spaceSession, partition}, []byte{spaceSession, partition + 1}, false, func(k, v []byte) bool {
		end := 2 + bytes.IndexByte(k[2:], 0) + 1
		st := &sessionStore{prefix: k[:end]}
		sum += st.hash(k[end:], v)
		return true
	})
	return sum, err
}

// Sessions visits the sessions of a partition that hold anything.
func (m *Machine) Sessions(partition uint8, visit func(name string)) error {
	last := ""
	return m.cfg.Store.Scan([]byte{spaceSession, partition}, []byte{spaceSession, partition + 1}, false, func(k, _ []byte) bool {
		if name, _, _ := bytes.Cut(k[2:], []byte{0}); string(name) != last {
			last = string(name)
			visit(last)
		}
		return true
	})
}

// Elements returns all that the sessions of a partition hold, by key.
func (m *Machine) Elements(partition uint8) map[string]string {
	all := map[string]string{}
	_ = m.cfg.Store.Scan([]byte{spaceSession, partition}, []byte{spaceSession, partition + 1}, false, func(k, v []byte) bool {
		all[string(k[2:])] = string(v)
		return true
	})
	return all
}
