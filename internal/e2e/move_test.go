package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/internal/check"
)

// words is a prompt of n words, no two alike, some of several bytes a letter.
func words(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%d", []string{"train", "车站", "été", "🚄", "x"}[i%5], i)
	}
	return strings.Join(list, " ")
}

// answer waits until a question has at least so many bytes of its answer.
func (d *device) answer(session, of string, bytes int) error {
	return d.until(fmt.Sprintf("%s has %d bytes of its answer", of, bytes), func() bool {
		runs := d.view(session).Answers(of)
		return len(runs) > 0 && len(runs[0].Shown) >= bytes
	})
}

// finished waits for the end of an answer and of being behind.
func (d *device) finished(session, of string) error {
	return d.until(of+" is answered", func() bool {
		v := d.view(session)
		return v.Answered(of) && !v.Behind
	})
}

// wants checks that a question has one answer, and which.
func wants(t *testing.T, v *view, of, text string) {
	t.Helper()
	runs := v.Answers(of)
	if len(runs) != 1 || runs[0].State != "done" || runs[0].Fin != "end" || runs[0].Shown != text {
		t.Errorf("%s has %d answers; want one, done, with the %d bytes of %q; the session is:\n%s", of, len(runs), len(text), text, v)
	}
}

// agree waits until devices show the same, and something is so at each of them.
func agree(t *testing.T, session string, so func(*view) bool, devices ...*device) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		equal := true
		for _, d := range devices {
			must(t, d.listen(time.After(20*time.Millisecond)))
			v := d.view(session)
			equal = equal && !v.Behind && so(v) && v.String() == devices[0].view(session).String()
		}
		if equal {
			return
		}
		if time.Now().After(end) {
			for _, d := range devices {
				t.Errorf("%s/%s shows:\n%s", d.user, d.name, d.view(session))
			}
			t.Fatalf("no agreement after %v", patience)
		}
	}
}

// sameEverywhere checks that a fresh snap of every region shows what the device shows.
func sameEverywhere(t *testing.T, d *device, session string, list ...*site) {
	t.Helper()
	want := d.view(session).String()
	for _, s := range list {
		if got := fresh(t, s, d.user, session).String(); got != want {
			t.Errorf("%s/%s shows:\n%s\na fresh snap in %s:\n%s", d.user, d.name, want, s.region, got)
		}
	}
}

// TestMoveInMidAnswer is the main job: a question in Beijing, a drop in the middle of its answer, and the rest in
// Shanghai, each byte once.
func TestMoveInMidAnswer(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	session := unique("anna/trip")
	text := words(60)
	d := user(t, "anna", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.put(session, ask("q1", text)))
	must(t, d.answer(session, "q1", len(text)/3))
	d.drop()
	v := d.view(session)
	before := len(v.Answers("q1")[0].Shown)
	if before >= len(text) {
		t.Fatalf("the answer was complete before the drop: nothing is tested")
	}
	must(t, d.connect(shanghai, session))
	must(t, d.finished(session, "q1"))
	wants(t, v, "q1", text)
	must(t, d.put(session, msg("m2", "thanks")))
	sameEverywhere(t, d, session, shanghai)
	agreeFresh(t, d, session, beijing)
	t.Logf("%d bytes in Beijing, %d of %d more in Shanghai, %d as tok", before, len(text)-before, len(text), v.Bytes)
}

// agreeFresh waits until another region shows what the device shows.
func agreeFresh(t *testing.T, d *device, session string, s *site) {
	t.Helper()
	other := user(t, d.user, "watch")
	must(t, other.connect(s, session))
	agree(t, session, func(v *view) bool { return len(v.Entries) >= len(d.view(session).Entries) }, d, other)
}

// TestMoveToAndFro moves every few words of one long answer, always with the cur of the frame applied last.
func TestMoveToAndFro(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	session := unique("bao/trip")
	text := words(150)
	d := user(t, "bao", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.put(session, ask("q1", text)))
	moves := 0
	for i, done := 0, false; !done; i++ {
		v := d.view(session)
		have := 0
		if runs := v.Answers("q1"); len(runs) > 0 {
			have, done = len(runs[0].Shown), v.Answered("q1")
		}
		must(t, d.until("some more came", func() bool {
			runs := v.Answers("q1")
			return len(runs) > 0 && (len(runs[0].Shown) > have+20 || check.Closed(runs[0].State))
		}))
		d.drop()
		moves++
		must(t, d.connect([]*site{shanghai, beijing}[i%2], session))
	}
	must(t, d.finished(session, "q1"))
	wants(t, d.view(session), "q1", text)
	sameEverywhere(t, d, session, beijing, shanghai)
	if moves < 5 {
		t.Errorf("only %d moves: the answer was too quick to test anything", moves)
	}
	t.Logf("%d moves", moves)
}

// TestSameOIDInBothRegions puts the same questions in both regions at the same moment.
func TestSameOIDInBothRegions(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	const rounds = 8
	session := unique("carl/twice")
	a, b := user(t, "carl", "phone"), user(t, "carl", "laptop")
	must(t, a.connect(beijing, session))
	must(t, b.connect(shanghai, session))
	for i := range rounds {
		oid := fmt.Sprintf("q%d", i)
		op := ask(oid, words(5+i))
		other := make(chan error)
		go func() { other <- b.put(session, op) }()
		must(t, a.put(session, op))
		must(t, <-other)
	}
	agree(t, session, func(v *view) bool {
		for i := range rounds {
			if !v.Answered(fmt.Sprintf("q%d", i)) {
				return false
			}
		}
		return true
	}, a, b)
	for i := range rounds {
		wants(t, a.view(session), fmt.Sprintf("q%d", i), words(5+i))
	}
	if n := len(a.view(session).Entries); n != 2*rounds {
		t.Errorf("%d entries, want %d questions and as many answers:\n%s", n, rounds, a.view(session))
	}
	sameEverywhere(t, a, session, beijing, shanghai)
}

// TestPropagation measures how long a message takes from a put in Beijing to a push in Shanghai.
func TestPropagation(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	session := unique("dora/far")
	a, b := user(t, "dora", "phone"), user(t, "dora", "laptop")
	must(t, a.connect(beijing, session))
	must(t, b.connect(shanghai, session))
	var took []time.Duration
	for i := range 60 {
		oid := fmt.Sprintf("m%d", i)
		start := time.Now()
		must(t, a.put(session, msg(oid, "hello")))
		v := b.view(session)
		must(t, b.until(oid+" came", func() bool { return v.Entries[oid] != nil }))
		took = append(took, v.Came[oid].Sub(start))
	}
	slices.Sort(took)
	t.Logf("put in Beijing to push in Shanghai, both on this machine: min %v, P50 %v, P90 %v, max %v",
		took[0], took[len(took)/2], took[len(took)*9/10], took[len(took)-1])
	must(t, a.until("all are safe", func() bool {
		for i := range took {
			if !a.safe[fmt.Sprintf("m%d", i)] {
				return false
			}
		}
		return true
	}))
}
