package region

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// given is a state that changes between the tries to take it.
type given struct {
	rng  *rand.Rand
	all  map[string]string
	next uint64
}

// change sets and removes some keys.
func (g *given) change(most int) {
	for range g.rng.IntN(most + 1) {
		k := fmt.Sprintf("\x10%04d", g.rng.IntN(120))
		if g.rng.IntN(3) == 0 {
			delete(g.all, k)
			continue
		}
		g.all[k] = strings.Repeat(fmt.Sprintf("%08d", g.rng.IntN(1e8)), 1+g.rng.IntN(8<<10))
	}
	g.next++
	g.all[string(machine.MetaKey("applied"))] = string(binary.BigEndian.AppendUint64(nil, g.next))
}

// pairs are the keys, in order.
func (g *given) pairs() (all []pair) {
	for k, v := range g.all {
		all = append(all, pair{k, v})
	}
	slices.SortFunc(all, func(a, b pair) int { return strings.Compare(a.k, b.k) })
	return all
}

// Get implements machine.Reader.
func (g *given) Get(k []byte) ([]byte, error) { return []byte(g.all[string(k)]), nil }

// Scan implements machine.Reader.
func (g *given) Scan(lo, hi []byte, _ bool, visit func(k, v []byte) bool) error {
	for _, p := range g.pairs() {
		if p.k >= string(lo) && p.k < string(hi) && !visit([]byte(p.k), []byte(p.v)) {
			break
		}
	}
	return nil
}

// TestTransfersAreExact: what is taken in the end is the state as it is then, byte for byte: however often it was cut before, at whichever part,
// in order or by a crash that leaves a table in the middle; whatever had changed in between; and with the tables of earlier tries removed as
// this one passes them.
func TestTransfersAreExact(t *testing.T) {
	same, removed := 0, 0
	for seed := range uint64(24) {
		s := newStaged(t, seed)
		g := &given{rng: s.rng, all: map[string]string{}}
		g.change(150)
		for _, p := range g.pairs() { // what the node had when it was here last
			s.set(p.k, p.v)
		}
		for cuts := s.rng.IntN(5); ; cuts-- {
			g.change(30)
			tk, err := s.take(g, cuts > 0)
			same, removed = same+int(tk.now.Own), removed+tk.passed
			if err == nil {
				if got := s.tables(tk.st.tables); !slices.Equal(got, g.pairs()) {
					t.Fatalf("seed %d: %d keys were taken, of %d", seed, len(got), len(g.all))
				}
				break
			}
			if cuts <= 0 || !errors.Is(err, errCut) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	if same == 0 || removed == 0 {
		t.Errorf("%d bytes did not come, and %d tables were passed: nothing of that was tried", same, removed)
	}
}

// tried is one try to take a state.
type tried struct {
	*taker
	passed int // tables of earlier tries
}

// take has one try, which may be cut.
func (s *staged) take(g *given, cut bool) (*tried, error) {
	s.t.Helper()
	held, err := openHeld(s.fs, "staging", s.prefix, reader{s.db, s.prefix, func(err error) { s.t.Error(err) }})
	if err != nil {
		s.t.Fatal(err)
	}
	tk := &tried{taker: &taker{g: &group{r: &Region{metrics: newMetrics(prometheus.NewRegistry())}}, held: held, st: s.staging(held.tries + 1)}}
	left := 1 << 30
	if cut {
		left = s.rng.IntN(30)
	}
	before := len(held.tables)
	err = sendState(g, g.next, held.runs, func(part *peerpb.StatePart) error {
		if left--; left < 0 {
			return errCut
		}
		if s.rng.IntN(4) == 0 { // a table is full
			if err := tk.st.finish(); err != nil {
				return err
			}
		}
		return tk.take(part)
	})
	tk.passed = before - len(held.tables)
	if err != nil && s.rng.IntN(2) == 0 {
		s.crash(tk.st)
		return tk, errors.Join(err, held.close())
	}
	if err == nil {
		return tk, held.close()
	}
	return tk, errors.Join(err, tk.close(err))
}

// crash leaves of the table that is being written what is on the disk.
func (s *staged) crash(st *staging) {
	s.t.Helper()
	if st.writer == nil {
		return
	}
	path := st.tables[len(st.tables)-1]
	if err := st.finish(); err != nil {
		s.t.Fatal(err)
	}
	b := s.content(path)
	s.write(path, b[:s.rng.IntN(len(b))])
}

// tables reads what was staged.
func (s *staged) tables(paths []string) (all []pair) {
	s.t.Helper()
	for _, path := range paths {
		table := &heldTable{path: path}
		if err := table.open(s.fs, s.prefix); err != nil {
			s.t.Fatal(err)
		}
		if err := table.scanner(s.prefix)(nil, nil, func(k, v []byte) bool {
			all = append(all, pair{string(bytes.Clone(k)), string(v)})
			return true
		}); err != nil {
			s.t.Fatal(err)
		}
		if err := table.reader.Close(); err != nil {
			s.t.Fatal(err)
		}
	}
	return all
}
