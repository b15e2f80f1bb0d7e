package feeds

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// cut is a region whose feeds are not kept, and that takes states as far as come says.
type cut struct {
	empty
	come []*peerpb.Pull // what to ask for next; the first is now; nil: all has come
}

func (c *cut) Feed(crdt.Origin, uint8, uint64, int) (wire.Records, error) {
	return wire.Records{}, wire.ErrFloor
}
func (c *cut) Cursors(p uint8) crdt.Vector { return crdt.Vector{c.self.ID(): 5} }
func (c *cut) Part(w *peerpb.Pull, _ int) (*peerpb.Part, error) {
	return &peerpb.Part{Partition: w.Partition, After: w.After, Since: w.Since, Last: true}, nil
}
func (c *cut) Pull(p uint8, _ string) (*peerpb.Pull, bool, error) {
	return c.come[0], c.come[0] != nil && c.come[0].After != "", nil
}

// said returns what a follower wants to be sent, and the reasons of its events.
func said(f *Follower) (wants []*peerpb.Want, reasons []Reason, install *Install) {
	for _, a := range f.Take() {
		switch {
		case a.Send != nil:
			wants = append(wants, a.Send)
		case a.Event != nil:
			reasons = append(reasons, a.Event.Reason)
		case a.Install != nil:
			install = a.Install
		}
	}
	return wants, reasons, install
}

// TestBelowTheFloor: a feed that is not kept is refused as that, and the state is pulled part by part, from where it was cut.
func TestBelowTheFloor(t *testing.T) {
	shanghai := &cut{empty: empty{crdt.NewOrigin("shanghai", 1)}}
	beijing := &cut{empty: empty{crdt.NewOrigin("beijing", 1)}, come: []*peerpb.Pull{
		{Partition: 3, After: "u/1"}, {Partition: 3, After: "u/2"}, nil,
	}}
	now := time.Unix(1, 0)
	s, f := NewSender("beijing", shanghai, All), NewFollower("shanghai", &beijing.empty, Forks{}, All)
	f.local = beijing
	start := wire.FeedStart(shanghai.self, 3)
	f.origins[shanghai.self] = true
	s.Want(&peerpb.Want{Subscribe: []*peerpb.Subscribe{{Origin: string(shanghai.self), Partition: 3, Hash: start[:]}}}, nil)
	have, err := s.Next()
	if err != nil || have.GetRefused() == nil || !have.Refused.Floor || have.Refused.Fork {
		t.Fatalf("the sender says %v, %v", have, err)
	}
	if err := f.Refused(have.Refused, now); err != nil {
		t.Fatal(err)
	}
	wants, reasons, _ := said(f)
	if len(wants) != 1 || wants[0].Pull[0].After != "u/1" || len(reasons) != 2 || reasons[1] != Resumed {
		t.Fatalf("the follower wants %v after %v", wants, reasons)
	}
	for _, after := range []string{"u/1", "u/2"} {
		s.Want(wants[0], nil)
		if have, err = s.Next(); err != nil || have.GetPart() == nil {
			t.Fatalf("the sender sends %v, %v", have, err)
		}
		f.Part(&peerpb.Part{Partition: 3, After: "u/0"}, now) // of a pull before
		f.Part(have.Part, now)
		f.Part(have.Part, now) // twice
		_, _, in := said(f)
		if in == nil || in.From != "shanghai" || in.Part.After != after {
			t.Fatalf("to be taken in: %+v", in)
		}
		beijing.come = beijing.come[1:]
		f.Installed(in, nil, now)
		wants, reasons, _ = said(f)
	}
	if len(wants) != 0 || len(reasons) != 1 || reasons[0] != Pulled || f.Due() != now.Add(PullPause) {
		t.Errorf("at the end it wants %v after %v, and is due at %v", wants, reasons, f.Due())
	}
}

// TestPullsAgain: a part that does not come is asked for again; a transfer that fails goes on a little later.
func TestPullsAgain(t *testing.T) {
	beijing := &cut{empty: empty{crdt.NewOrigin("beijing", 1)}, come: []*peerpb.Pull{{Partition: 3}}}
	f, now := NewFollower("shanghai", beijing, Forks{}, All), time.Unix(1, 0)
	f.origins[crdt.NewOrigin("shanghai", 1)] = true
	refused := &peerpb.Refused{Origin: string(crdt.NewOrigin("shanghai", 1)), Partition: 3, Floor: true}
	if err := f.Refused(refused, now); err != nil {
		t.Fatal(err)
	}
	said(f)
	now = f.Due()
	f.Tick(now)
	if wants, _, _ := said(f); len(wants) != 1 || len(wants[0].Pull) != 1 {
		t.Errorf("it asks %v", wants)
	}
	f.Part(&peerpb.Part{Partition: 3}, now)
	_, _, in := said(f)
	f.Installed(in, fmt.Errorf("session x: %w", wire.ErrPart), now)
	if _, reasons, _ := said(f); len(reasons) != 1 || reasons[0] != BadPart || f.Due() != now.Add(badPause) {
		t.Errorf("after a damaged part it says %v, and is due at %v", reasons, f.Due())
	}
	now = f.Due()
	f.Tick(now)
	f.Part(&peerpb.Part{Partition: 3}, now)
	_, _, in = said(f)
	f.Installed(in, errors.New("not now"), now)
	if _, reasons, _ := said(f); len(reasons) != 1 || reasons[0] != NotPulled || len(f.pulls) != 0 {
		t.Errorf("it says %v", reasons)
	}
	for p := range uint32(maxPulls + 2) {
		refused.Partition = p
		if err := f.Refused(refused, now); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.pulls) != maxPulls {
		t.Errorf("%d partitions are pulled at once", len(f.pulls))
	}
}

// merging is a region that has no part to give.
type merging struct{ cut }

func (m *merging) Part(*peerpb.Pull, int) (*peerpb.Part, error) { return nil, wire.ErrUnavailable }

// TestNothingToGive: who cannot give a part now says so, and is asked again for as long as it takes; a stream on which nothing is
// answered is given up.
func TestNothingToGive(t *testing.T) {
	shanghai := &merging{cut{empty: empty{crdt.NewOrigin("shanghai", 1)}}}
	beijing := &cut{empty: empty{crdt.NewOrigin("beijing", 1)}, come: []*peerpb.Pull{{Partition: 3}}}
	s, f, now := NewSender("beijing", shanghai, All), NewFollower("shanghai", beijing, Forks{}, All), time.Unix(1, 0)
	f.origins[shanghai.self] = true
	if err := f.Refused(&peerpb.Refused{Origin: string(shanghai.self), Partition: 3, Floor: true}, now); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		wants, _, _ := said(f)
		if len(wants) != 1 {
			t.Fatalf("it asks %v", wants)
		}
		s.Want(wants[0], nil)
		have, err := s.Next()
		if err != nil || have.GetPart() == nil {
			t.Fatalf("the answer is %v, %v", have, err)
		}
		f.Part(have.Part, now)
		if due := f.Due(); due != now.Add(PullPause) {
			t.Fatalf("it asks again at %v", due)
		}
		now = f.Due()
		f.Tick(now)
		if err := f.Heads(&peerpb.Heads{}, nil, now); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for range maxStuck {
		if err = f.Heads(&peerpb.Heads{}, nil, now); err != nil {
			t.Fatal(err)
		}
		now = f.Due()
		f.Tick(now)
	}
	if err = f.Heads(&peerpb.Heads{}, nil, now); !errors.Is(err, ErrStuck) {
		t.Errorf("nothing is answered: %v", err)
	}
}

// large is a region with a session that no message holds, and a feed that is kept.
type large struct{ cut }

func (l *large) Part(w *peerpb.Pull, _ int) (*peerpb.Part, error) {
	ses := &peerpb.Session{Name: "u/a", Keys: [][]byte{{1}}, Values: [][]byte{make([]byte, 100)}}
	return &peerpb.Part{Partition: w.Partition, After: w.After, Since: w.Since, Sessions: []*peerpb.Session{ses}, Last: true}, nil
}

func (l *large) Feed(o crdt.Origin, p uint8, from uint64, _ int) (wire.Records, error) {
	return wire.Records{Origin: o, Partition: p, From: from, Records: [][]byte{{1}}}, nil
}

// TestPieces: a part that is too large for a message comes in pieces, with records between them, and is begun again when it is
// asked for again.
func TestPieces(t *testing.T) {
	shanghai := &large{cut{empty: empty{crdt.NewOrigin("shanghai", 1)}}}
	beijing := &cut{empty: empty{crdt.NewOrigin("beijing", 1)}, come: []*peerpb.Pull{{Partition: 3}}}
	s, f, now := NewSender("beijing", shanghai, All), NewFollower("shanghai", beijing, Forks{}, All), time.Unix(1, 0)
	s.Whole = 40
	f.origins[shanghai.self] = true
	if err := f.Refused(&peerpb.Refused{Origin: string(shanghai.self), Partition: 3, Floor: true}, now); err != nil {
		t.Fatal(err)
	}
	wants, _, _ := said(f)
	start := wire.FeedStart(shanghai.self, 4)
	s.Want(&peerpb.Want{Subscribe: []*peerpb.Subscribe{{Origin: string(shanghai.self), Partition: 4, Hash: start[:]}}}, nil)
	records, pieces := 0, 0
	var in *Install
	for i := 0; i < 50 && in == nil; i++ {
		if i == 0 || pieces == 2 {
			s.Want(wants[0], nil)
		}
		have, err := s.Next()
		switch {
		case err != nil || have == nil:
			t.Fatalf("after %d pieces it sends %v, %v", pieces, have, err)
		case have.Records != nil:
			records++
			continue
		}
		if pieces++; pieces == 4 {
			h := have.Piece
			f.Piece(&peerpb.Piece{Partition: h.Partition, Since: h.Since, Off: h.Off + 1, Size: h.Size, Data: h.Data}, now) // one before was lost
		}
		if size := len(have.Piece.Data); size > s.Whole {
			t.Errorf("a piece of %d bytes", size)
		}
		now = now.Add(pullTimeout - time.Second)
		f.Tick(now)
		f.Piece(have.Piece, now)
		_, _, in = said(f)
	}
	if in == nil || in.Part.Sessions[0].Name != "u/a" || len(in.Part.Sessions[0].Values[0]) != 100 {
		t.Fatalf("to be taken in: %+v", in)
	}
	if pieces != 5 || records != 4 { // two before it was begun again
		t.Errorf("%d pieces, %d records", pieces, records)
	}
	f.Piece(&peerpb.Piece{Partition: 3, Size: 1, Data: []byte{1}}, now)
	if _, reasons, again := said(f); again != nil || len(reasons) != 1 || reasons[0] != NotNext {
		t.Errorf("a piece that nobody waits for: %v, %v", reasons, again)
	}
}
