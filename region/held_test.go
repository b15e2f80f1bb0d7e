package region

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

type pair struct{ k, v string }

// staged is what some tries have left, and the state that was there before them.
type staged struct {
	t      *testing.T
	rng    *rand.Rand
	fs     *vfs.MemFS
	db     *pebble.DB
	prefix []byte
}

func newStaged(t *testing.T, seed uint64) *staged {
	t.Helper()
	s := &staged{t: t, rng: rand.New(rand.NewPCG(seed, 0)), fs: vfs.NewMem()}
	if seed%2 == 1 {
		s.prefix = []byte{groupSpace + 3}
	}
	var err error
	if s.db, err = pebble.Open("state", &pebble.Options{FS: s.fs, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLog{log: slog.New(slog.DiscardHandler)}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.fs.MkdirAll("staging", 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// staging is for what a try stages.
func (s *staged) staging(try int) *staging {
	return &staging{fs: s.fs, dir: "staging", try: try, prefix: s.prefix, db: s.db, intake: intake{sum: newChecksum()}}
}

// try stages the keys from 0 to before n, some of which are missing, in tables of some keys, and returns what it staged.
func (s *staged) try(try, n int) (all []pair) {
	s.t.Helper()
	st := s.staging(try)
	if n > 0 {
		all = append(all, s.pair(0, try))
	}
	for i := range n {
		if s.rng.IntN(3) > 0 && i > 0 {
			all = append(all, s.pair(i, try))
		}
	}
	for _, p := range all {
		if err := st.one([]byte(p.k), []byte(p.v), st.set); err != nil {
			s.t.Fatal(err)
		}
		if s.rng.IntN(5) == 0 {
			if err := st.finish(); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if err := st.finish(); err != nil {
		s.t.Fatal(err)
	}
	return all
}

func (s *staged) pair(i, try int) pair {
	return pair{fmt.Sprintf("\x10%04d", i), fmt.Sprintf("%d by %d", i, try)}
}

// beyond is what of some pairs follows the last of others.
func beyond(these, others []pair) []pair {
	if len(others) == 0 {
		return these
	}
	i, found := slices.BinarySearchFunc(these, others[len(others)-1], func(a, b pair) int { return bytes.Compare([]byte(a.k), []byte(b.k)) })
	if found {
		i++
	}
	return these[i:]
}

// read is what is held, by its runs.
func (s *staged) read() (all []pair) {
	s.t.Helper()
	own := reader{s.db, s.prefix, func(err error) { s.t.Error(err) }}
	files := openFiles{s.fs, new(int)}
	h, err := openHeld(files, "staging", s.prefix, own)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := h.close(); err != nil || *files.open > 0 {
			s.t.Errorf("%d files are left open, %v", *files.open, err)
		}
	}()
	for _, run := range h.runs {
		lo, hi, err := h.find(run.Last)
		if err != nil {
			s.t.Fatal(err)
		}
		sum := newChecksum()
		if err := h.scan(lo, hi, func(k, v []byte) error {
			all = append(all, pair{string(k), string(v)})
			sum.add(k, v)
			return nil
		}); err != nil || !bytes.Equal(sum.sum(), run.Sum) {
			s.t.Fatal("a run is not what it says: ", err)
		}
	}
	return all
}

// openFiles counts the files that are open.
type openFiles struct {
	vfs.FS
	open *int
}

type openFile struct {
	vfs.File
	open *int
}

// Open implements vfs.FS.
func (o openFiles) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := o.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	*o.open++
	return openFile{f, o.open}, nil
}

// Close implements vfs.File.
func (o openFile) Close() error {
	*o.open--
	return o.File.Close()
}

// TestHeld: what is held is what the last try has staged, beyond that what those before it have, and then the state itself. A table that a
// crash cut short, at whichever byte, is as if it had never been begun.
func TestHeld(t *testing.T) {
	for seed := range uint64(40) {
		s := newStaged(t, seed)
		own := []pair{}
		for i := range 60 {
			if s.rng.IntN(2) > 0 {
				p := s.pair(i, 0)
				own = append(own, p)
				s.set(p.k, p.v)
			}
		}
		s.set(string(machine.NodeKey(nodeID)), "not of the state") // below a prefix it is nobody's
		want := own
		for try := 1; try <= s.rng.IntN(4); try++ {
			came := s.try(try, s.rng.IntN(80))
			want = slices.Concat(came, beyond(want, came))
		}
		s.short()
		if got := s.read(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: held\n%q\nwant\n%q", seed, got, want)
		}
	}
}

func (s *staged) set(k, v string) {
	if err := s.db.Set(append(slices.Clone(s.prefix), k...), []byte(v), pebble.NoSync); err != nil {
		s.t.Fatal(err)
	}
}

// short leaves a table of a later try of which the end is missing, and one that is none.
func (s *staged) short() {
	s.t.Helper()
	s.try(9, 30)
	names, err := s.fs.List("staging")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		if name[:6] == "000009" {
			path := s.fs.PathJoin("staging", name)
			b := s.content(path)
			s.write(path, b[:s.rng.IntN(len(b))])
		}
	}
	s.write("staging/000000.sst", []byte("of an older version"))
}

func (s *staged) content(path string) []byte {
	s.t.Helper()
	f, err := s.fs.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *staged) write(path string, b []byte) {
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// TestRunOfWhatWasPassed: a run that is named when its place has been passed, and its table is gone, is refused.
func TestRunOfWhatWasPassed(t *testing.T) {
	s := newStaged(t, 1)
	s.try(1, 80)
	h, err := openHeld(s.fs, "staging", s.prefix, reader{s.db, s.prefix, func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	tk := &taker{g: &group{r: &Region{metrics: newMetrics(prometheus.NewRegistry())}}, held: h, st: s.staging(2)}
	beyond := &peerpb.StatePart{Keys: [][]byte{[]byte("\x11")}, Values: [][]byte{nil}}
	if err := errors.Join(tk.take(beyond), tk.st.finish(), h.pass(tk.st.whole)); err != nil {
		t.Fatal(err)
	}
	if len(h.tables) > 0 || len(h.runs) == 0 {
		t.Fatalf("%d tables are left, of %d runs", len(h.tables), len(h.runs))
	}
	if err := tk.take(&peerpb.StatePart{Same: h.runs[0].Last}); !errors.Is(err, errState) {
		t.Errorf("got %v", err)
	}
}
