package dispatch

import (
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/workpb"
)

var noon = time.UnixMilli(1_800_000_000_000)

// slotOf makes a slot that stands in a region: queued, or begun by `by` so long ago.
func slotOf(at, by string, ago time.Duration, change ...func(*crdt.Slot)) *crdt.Slot {
	s := &crdt.Slot{OID: "run-1"}
	s.Of, s.At = "m1", crdt.NewOrigin(at, 1)
	if by != "" {
		s.Nonce = "w"
		s.State, s.Attempt, s.Active = crdt.RunRunning, crdt.Attempt{Epoch: 1, Region: by, N: 1}, crdt.StampAt(noon.Add(-ago))
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func TestDecide(t *testing.T) {
	stop := func(s *crdt.Slot) { s.Stop = 2 }
	done := func(s *crdt.Slot) { s.State = crdt.RunDone }
	lim := limits{region: "here", unserved: 5 * time.Second}
	known := job{stream: "s", id: "1-0", checkAt: noon.Add(time.Second)}
	due, gone := known, known
	due.checkAt, gone.lost = noon, jobGone
	since := func(ago time.Duration) job { return job{unserved: noon.Add(-ago)} }
	for _, c := range []struct {
		name   string
		slot   *crdt.Slot
		behind bool
		job    job
		by     service
		do     action
		at     time.Duration // after noon
	}{
		{"queued here", slotOf("here", "", 0), false, job{}, served, enqueue, 0},
		{"queued elsewhere", slotOf("there", "", 0), false, job{}, served, forget, 0},
		{"queued here, begun elsewhere", slotOf("here", "there", 0), false, job{}, served, forget, 0},
		{"queued elsewhere, begun here, lease over", slotOf("there", "here", 15*time.Second), false, job{}, served, enqueue, 0},
		{"closed", slotOf("here", "here", 0, done), false, known, served, forget, 0},
		{"closed, with a stop", slotOf("here", "here", 0, stop, done), false, known, served, forget, 0},
		{"stop while queued", slotOf("here", "", 0, stop), false, known, served, closeStopped, 0},
		{"stop while queued behind another, without workers", slotOf("here", "", 0, stop), true, job{}, noWorkers, closeStopped, 0},
		{"stop while running", slotOf("here", "here", 0, stop), false, job{}, served, closeStopped, 0},
		{"stop of another region's", slotOf("there", "there", 0, stop), false, job{}, served, forget, 0},
		{"running", slotOf("here", "here", 4*time.Second), false, job{}, served, wait, 11 * time.Second},
		{"running, last moment of the lease", slotOf("here", "here", 15*time.Second-time.Millisecond), false, job{}, served, wait, time.Millisecond},
		{"running, by a clock that is far ahead", slotOf("here", "here", -time.Hour), false, job{}, served, wait, maxWait},
		{"lease over", slotOf("here", "here", 15*time.Second), false, job{}, served, enqueue, 0},
		{"lease over, job added", slotOf("here", "here", time.Minute), false, known, served, wait, time.Second},
		{"behind", slotOf("here", "", 0), true, job{}, served, wait, maxWait},
		{"no workers", slotOf("here", "", 0), false, since(time.Hour), noWorkers, wait, maxWait},
		{"nobody serves it, from now on", slotOf("here", "", 0), false, job{}, unserved, wait, 5 * time.Second},
		{"nobody serves it, for a while", slotOf("here", "", 0), false, since(4 * time.Second), unserved, wait, time.Second},
		{"nobody serves it", slotOf("here", "", 0), false, since(5 * time.Second), unserved, closeFailed, 0},
		{"nobody serves it, but it has not come to that", slotOf("here", "", 0), true, since(time.Hour), unserved, wait, maxWait},
		{"job added", slotOf("here", "", 0), false, known, served, wait, time.Second},
		{"job added, look for it", slotOf("here", "", 0), false, due, served, check, 0},
		{"job lost", slotOf("here", "", 0), false, gone, served, enqueue, 0},
	} {
		d := lim.decide(moment{noon, noon}, c.slot, c.behind, c.job, c.by)
		if d.do != c.do || (d.do == wait && !d.at.Equal(noon.Add(c.at))) {
			t.Errorf("%s: %d at %v, want %d at %v", c.name, d.do, d.at.Sub(noon), c.do, c.at)
		}
		if keep := c.by == unserved && d.do == wait && !c.behind; keep == d.unserved.IsZero() {
			t.Errorf("%s: unserved since %v", c.name, d.unserved)
		}
	}
}

func TestQueued(t *testing.T) {
	q := func(of string) *crdt.Slot { return slotOf("here", "", 0, func(s *crdt.Slot) { s.Of = of }) }
	r := func(of string) *crdt.Slot { return slotOf("here", "here", 0, func(s *crdt.Slot) { s.Of = of }) }
	for _, c := range []struct {
		slots  []*crdt.Slot
		behind []bool
	}{
		{nil, nil},
		{[]*crdt.Slot{q("a"), q("a"), q("b")}, []bool{false, false, true}},
		{[]*crdt.Slot{r("a"), q("b"), q("a")}, []bool{false, true, true}}, // a asked again after b
		{[]*crdt.Slot{r("a"), r("b"), q("b")}, []bool{false, false, true}},
		{[]*crdt.Slot{r("a"), q("a")}, []bool{false, false}},
	} {
		for i, behind := range queued(c.slots) {
			if behind != c.behind[i] {
				t.Errorf("%d of %d: behind is %v", i, len(c.slots), behind)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		f    found
		lost string
	}{
		{found{}, jobGone},
		{found{pending: true}, jobGone},
		{found{exists: true}, ""},
		{found{exists: true, delivered: true, pending: true, idle: time.Second}, ""},
		{found{exists: true, delivered: true, pending: true, idle: 10 * time.Second}, jobStale},
		{found{exists: true, delivered: true}, jobGone},
	} {
		if got := c.f.judge(10 * time.Second); got != c.lost {
			t.Errorf("%+v: %q, want %q", c.f, got, c.lost)
		}
	}
}

func TestReportsAreBounded(t *testing.T) {
	long := string(make([]byte, maxPiece+1))
	rep := func(change func(*workpb.Report)) *workpb.Report {
		r := &workpb.Report{Session: "u/a", Run: "run-1", Nonce: "n", What: &workpb.Report_Done{Done: &workpb.Done{Fin: "end"}}}
		change(r)
		return r
	}
	done := func(d *workpb.Done) func(*workpb.Report) {
		return func(r *workpb.Report) { r.What = &workpb.Report_Done{Done: d} }
	}
	for name, c := range map[string]struct {
		r  *workpb.Report
		ok bool
	}{
		"complete":       {rep(func(*workpb.Report) {}), true},
		"failed":         {rep(done(&workpb.Done{Failed: true, Err: "x", Usage: []byte(`{}`)})), true},
		"no session":     {rep(func(r *workpb.Report) { r.Session = "" }), false},
		"no nonce":       {rep(func(r *workpb.Report) { r.Nonce = "" }), false},
		"long run":       {rep(func(r *workpb.Report) { r.Run = long }), false},
		"nothing":        {rep(func(r *workpb.Report) { r.What = nil }), false},
		"long piece":     {rep(func(r *workpb.Report) { r.What = &workpb.Report_Chunk{Chunk: &workpb.Chunk{Text: long}} }), false},
		"long model":     {rep(func(r *workpb.Report) { r.What = &workpb.Report_Begin{Begin: &workpb.Begin{Model: long}} }), false},
		"empty":          {rep(func(r *workpb.Report) { r.What = &workpb.Report_Chunk{} }), true},
		"fin of a user":  {rep(done(&workpb.Done{Fin: "stopped"})), false},
		"usage no JSON":  {rep(done(&workpb.Done{Fin: "end", Usage: []byte("{")})), false},
		"long usage":     {rep(done(&workpb.Done{Fin: "end", Usage: make([]byte, maxUsage+1)})), false},
		"long complaint": {rep(done(&workpb.Done{Failed: true, Err: long})), false},
	} {
		if _, err := op(c.r); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerdictsAndKindsHaveNames(t *testing.T) {
	for v := crdt.Accepted; v <= crdt.Unknown; v++ {
		if verdicts[v] == workpb.Verdict_VERDICT_UNSPECIFIED {
			t.Errorf("verdict %d has no name for workers", v)
		}
	}
	if len(verdicts) != int(crdt.Unknown)+1 || len(kinds) != 3 {
		t.Errorf("%d verdicts and %d kinds", len(verdicts), len(kinds))
	}
}

func TestLatestRepliesStand(t *testing.T) {
	r := func(nonce string, n uint64) *workpb.Reply { return &workpb.Reply{Nonce: nonce, Len: n} }
	got := latest([]*workpb.Reply{r("a", 1), r("b", 1), r("a", 2), r("c", 1), r("b", 2)})
	if len(got) != 3 || got[0].Nonce != "a" || got[0].Len != 2 || got[1].Nonce != "c" || got[2].Nonce != "b" || got[2].Len != 2 {
		t.Errorf("kept %v", got)
	}
}

// bare is a region that only has sessions with an open answer.
type bare struct {
	Commits
	runs []wire.OpenRun
}

func (b *bare) Open() ([]wire.OpenRun, string, error) { return b.runs, "", nil }

func TestInboxOverflowReadsTheState(t *testing.T) {
	d, err := New(Config{Region: "here", Redis: "redis://127.0.0.1:1", Commits: &bare{runs: []wire.OpenRun{{Session: "u/late"}}}})
	if err != nil {
		t.Fatal(err)
	}
	box := newInbox()
	o := &outbox{cfg: &d.cfg, met: d.met, inbox: box, sessions: map[string]*tracked{}}
	for i := range maxDirty + 1 {
		box.add(stream.ID{Millis: uint64(i)}.String())
	}
	if len(box.dirty) != maxDirty {
		t.Errorf("%d sessions are kept", len(box.dirty))
	}
	look := o.absorb(false)
	if o.sessions["u/late"] == nil || len(look) != maxDirty+1 {
		t.Errorf("the state was not read: %d to look at", len(look))
	}
}

func TestTrackedSessionsAreBounded(t *testing.T) {
	b := &bare{}
	d, err := New(Config{Region: "here", Redis: "redis://127.0.0.1:1", Commits: b})
	if err != nil {
		t.Fatal(err)
	}
	o := &outbox{cfg: &d.cfg, met: d.met, inbox: newInbox(), sessions: map[string]*tracked{}}
	for i := range maxTracked {
		o.track(stream.ID{Millis: uint64(i)}.String(), noon)
	}
	o.inbox.add("u/beyond")
	o.absorb(false)
	if o.sessions["u/beyond"] != nil || !o.backlog {
		t.Fatal("tracked beyond the bound")
	}
	clear(o.sessions)
	b.runs = []wire.OpenRun{{Session: "u/beyond"}}
	if o.absorb(false); o.sessions["u/beyond"] == nil || o.backlog {
		t.Error("not taken up when there was room")
	}
}

func TestTakes(t *testing.T) {
	stop := func(s *crdt.Slot) { s.Stop = 2 }
	done := func(s *crdt.Slot) { s.State = crdt.RunDone }
	for _, c := range []struct {
		name                   string
		slot                   *crdt.Slot
		gone, followed, behind bool
		by                     service
		want                   bool
	}{
		{"never begun", slotOf("there", "", 0), true, true, false, served, true},
		{"begun", slotOf("there", "there", 0), true, true, false, served, true},
		{"its home is heard", slotOf("there", "there", time.Hour), false, true, false, served, false},
		{"nobody waits for it", slotOf("there", "there", 0), true, false, false, served, false},
		{"after another question", slotOf("there", "", 0), true, true, true, served, false},
		{"no workers", slotOf("there", "", 0), true, true, false, noWorkers, false},
		{"nobody serves it", slotOf("there", "", 0), true, true, false, unserved, false},
		{"to be stopped, by nobody, behind another", slotOf("there", "", 0, stop), true, true, true, noWorkers, true},
		{"to be stopped, nobody waits for it", slotOf("there", "", 0, stop), true, false, false, served, false},
		{"closed", slotOf("there", "there", 0, done), true, true, false, served, false},
	} {
		if got := takes(c.slot, c.gone, c.followed, c.behind, c.by); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
