package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/backup"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// backupWait is how long a backup waits for what was acknowledged before it; a region without a leader has nobody who knows.
const backupWait = 5 * time.Second

// Hold keeps the region open while somebody reads from it, unless the node is stopping. Whoever does has to call done soon after
// the context that is returned has ended.
func (r *Region) Hold(ctx context.Context) (_ context.Context, done func(), ok bool) {
	return r.askRaft(ctx)
}

// Backup writes the state of all groups, each at one applied index, all as they are at one moment: what was acknowledged before
// it began is in it, unless it says that it is behind. Nothing waits for it. Its caller holds the region: see Hold.
func (r *Region) Backup(ctx context.Context, w io.Writer) error {
	groups := r.all()
	if len(groups) == 0 {
		return errUnknown
	}
	h := backup.Header{Region: r.cfg.Region, Node: r.cfg.Node, Level: machine.FeatureLevel, Behind: !r.CaughtUp(ctx)}
	snap := r.db.NewSnapshot()
	defer snap.Close()
	h.Time = r.cfg.Now().UTC()
	var states []machine.Reader
	for _, g := range groups {
		state := reader{snap, g.store.prefix, g.store.bad}
		applied, err := machine.AppliedIn(state)
		if err != nil {
			return fmt.Errorf("backup of group %d: %w", g.n, err)
		}
		h.Applied, states = append(h.Applied, applied), append(states, state)
	}
	r.cfg.Logger.Info("a backup is taken", "entries", h.Applied, "behind", h.Behind)
	out, err := backup.NewWriter(w, h)
	if err != nil {
		return err
	}
	for n, state := range states {
		if err := sendState(state, h.Applied[n], nil, func(p *peerpb.StatePart) error {
			return errors.Join(ctx.Err(), out.Part(p))
		}); err != nil {
			return fmt.Errorf("backup of group %d: %w", n, err)
		}
	}
	return out.Close()
}

// Saved is what a backup holds.
type Saved struct {
	backup.Header
	Keys, Sessions uint64
}

// ReadBackup reads a backup to its end, and so proves it whole. For each part, seen is told what has come so far; nil: nobody is.
func ReadBackup(r io.Reader, seen func(Saved)) (Saved, error) {
	file, err := openBackup(r)
	if err != nil {
		return Saved{}, err
	}
	defer file.Close()
	all, last := Saved{Header: file.Header}, ""
	err = eachGroup(file, func(int) (func(p *peerpb.StatePart) error, error) {
		in := &intake{sum: newChecksum()}
		return func(p *peerpb.StatePart) error {
			if err := in.take(p, func([]byte, []byte) error { return nil }); err != nil {
				return err
			}
			last = all.note(p, last, seen)
			return nil
		}, nil
	})
	return all, err
}

// note counts a part, given the last session before it, and returns the last session in it.
func (s *Saved) note(p *peerpb.StatePart, last string, seen func(Saved)) string {
	s.Keys += uint64(len(p.Keys))
	for _, k := range p.Keys {
		if name, ok := machine.SessionOf(k); ok && name != last {
			s.Sessions, last = s.Sessions+1, name
		}
	}
	if seen != nil {
		seen(*s)
	}
	return last
}

// openBackup reads a backup's header, and refuses what this version cannot restore.
func openBackup(r io.Reader) (*backup.Reader, error) {
	file, err := backup.NewReader(r)
	if err != nil {
		return nil, err
	}
	h := file.Header
	switch {
	case h.Level > machine.FeatureLevel:
		err = fmt.Errorf("%w: its region has entries of level %d, this version applies up to %d", backup.ErrNewer, h.Level, machine.FeatureLevel)
	case !validGroups(len(h.Applied)):
		err = fmt.Errorf("%w: header: %d groups", backup.ErrDamaged, len(h.Applied))
	case !crdt.ValidRegion(h.Region) || !crdt.ValidRegion(h.Node):
		err = fmt.Errorf("%w: header: region %q, node %q", backup.ErrDamaged, h.Region, h.Node)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// eachGroup has each group's parts taken by what open returns for it, and holds the end of each against the header.
func eachGroup(file *backup.Reader, open func(group int) (take func(*peerpb.StatePart) error, err error)) error {
	for n, applied := range file.Header.Applied {
		take, err := open(n)
		for last := false; err == nil && !last; {
			var p *peerpb.StatePart
			if p, err = file.Next(); err != nil {
				break
			}
			if err = take(p); errors.Is(err, errState) {
				err = fmt.Errorf("%w: group %d: %w", backup.ErrDamaged, n, err)
			}
			if last = p.Last; last && err == nil && p.Applied != applied {
				err = fmt.Errorf("%w: group %d is at entry %d, its header says %d", backup.ErrDamaged, n, p.Applied, applied)
			}
		}
		if err != nil {
			return err
		}
	}
	_, err := file.Next()
	if err == nil {
		return fmt.Errorf("%w: something follows its last group", backup.ErrDamaged)
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, backup.ErrDamaged) {
		return nil
	}
	return err
}
