package machine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Part returns whole sessions of a partition as they are now: those that follow one by name and have something beyond a
// vector, at least one if there is one, and no more when maxBytes are reached. While another region's state is being merged there is
// none to be had: wire.ErrUnavailable.
func (m *Machine) Part(w *peerpb.Pull, maxBytes int) (*peerpb.Part, error) {
	since, err := crdt.DecodeVector(w.Since)
	if err != nil {
		return nil, err
	}
	partition, snap := uint8(w.Partition), m.cfg.Store.Snapshot()
	part := &peerpb.Part{Partition: w.Partition, After: w.After, Since: w.Since, Last: true}
	err = errors.Join(marks(snap, partition, part), sessions(snap, partition, part, since, maxBytes), snap.Close())
	if err != nil {
		return nil, fmt.Errorf("read partition %d: %w", partition, err)
	}
	return part, nil
}

// marks says what a state has applied.
func marks(r Reader, p uint8, part *peerpb.Part) error {
	if beyond, err := r.Get(partitionKey(spaceBeyond, p)); beyond != nil || err != nil {
		return errors.Join(err, wire.ErrUnavailable)
	}
	var failed error
	lo := partitionKey(spaceCursor, p)
	err := r.Scan(lo, upper(lo), false, func(k, v []byte) bool {
		name, err := r.Get(append(MetaKey(metaOrigin), k[2:]...))
		pos := decodePosition(v)
		failed = errors.Join(failed, err)
		part.Vector = append(part.Vector, &peerpb.Mark{Origin: string(name), F: pos.F, Hash: bytes.Clone(pos.Hash[:])})
		return true
	})
	return errors.Join(err, failed)
}

// sessions fills a part. It looks at the header of each session, and reads those that are wanted.
func sessions(r Reader, p uint8, part *peerpb.Part, since crdt.Vector, maxBytes int) (err error) {
	lo, hi, size := partitionKey(spaceSession, p), upper(partitionKey(spaceSession, p)), 0
	if part.After != "" {
		lo = upper(sessionPrefix(p, part.After))
	}
	for {
		name, found := "", false
		err = r.Scan(lo, hi, false, func(k, _ []byte) bool {
			b, _, _ := bytes.Cut(k[2:], []byte{0})
			name, found = string(b), true
			return false
		})
		if err != nil || !found {
			return err
		}
		prefix := sessionPrefix(p, name)
		lo = upper(prefix)
		st := &sessionStore{read: r, prefix: prefix}
		if since.Covers(crdt.ReadHeader(st).Seen) {
			if st.err != nil {
				return st.err
			}
			continue
		}
		if size >= maxBytes {
			part.Last = false
			return nil
		}
		one := &peerpb.Session{Name: name}
		part.Sessions = append(part.Sessions, one)
		err = r.Scan(prefix, lo, false, func(k, v []byte) bool {
			size += len(k) + len(v)
			one.Keys, one.Values = append(one.Keys, bytes.Clone(k[len(prefix):])), append(one.Values, bytes.Clone(v))
			return true
		})
		if err != nil {
			return err
		}
	}
}

// CheckPart refuses a part that no region sends. It does not look into sessions: see CheckSessions.
func CheckPart(p *peerpb.Part) error {
	if p == nil || p.Partition >= crdt.Partitions {
		return fmt.Errorf("%w: partition %d", wire.ErrPart, p.GetPartition())
	}
	for _, m := range p.Vector {
		if _, err := crdt.ParseOrigin(m.Origin); err != nil || len(m.Hash) != len(wire.Hash{}) || m.F == 0 {
			return fmt.Errorf("%w: mark %q at %d: %w", wire.ErrPart, m.Origin, m.F, err)
		}
	}
	if _, err := crdt.DecodeVector(p.Since); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrPart, err)
	}
	last := p.After
	for _, s := range p.Sessions {
		if s.Name <= last || crdt.PartitionOf(s.Name) != uint8(p.Partition) || len(s.Keys) != len(s.Values) || len(s.Keys) == 0 {
			return fmt.Errorf("%w: session %q after %q, %d keys, %d values", wire.ErrPart, s.Name, last, len(s.Keys), len(s.Values))
		}
		last = s.Name
	}
	if !p.Last && len(p.Sessions) == 0 {
		return fmt.Errorf("%w: it is empty, and not the last", wire.ErrPart)
	}
	return nil
}

// CheckSessions refuses a part with sessions that do not read back. It is for what another region sends, before it is proposed: once it is
// in the log every node trusts it.
func CheckSessions(p *peerpb.Part) error {
	for _, s := range p.GetSessions() {
		err := wire.CheckSession(s.Name)
		if err == nil {
			err = crdt.CheckSession(s.Keys, s.Values)
		}
		if err != nil {
			return fmt.Errorf("%w: session %q: %w", wire.ErrPart, s.Name, err)
		}
	}
	return nil
}
