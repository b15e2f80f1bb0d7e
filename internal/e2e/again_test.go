package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamsync/roam/internal/check"
)

// TestPutAgainElsewhere: a client that has an ok from Shanghai moves to Beijing, which has not heard of the ops yet, and
// puts them again, as the protocol asks for what is not safe. Beijing gives them other places until it learns of the
// first ones, which stand, and then says so to the client that it told otherwise.
func TestPutAgainElsewhere(t *testing.T) {
	t.Parallel()
	const session = "hana/again"
	list := sites(t, "beijing", "shanghai")
	beijing, shanghai := list[0], list[1]
	must(t, startAll(list))
	d := user(t, "hana", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.put(session, msg("before", "x")))
	must(t, d.until("it is safe", func() bool { return d.safe["before"] }))
	beijing.crash()
	d.drop()
	must(t, d.connect(shanghai, session))
	ops := []obj{ask("q", words(8)), msg("m", "hello"), {"k": "set", "oid": "s", "key": "title", "v": "a"}}
	for _, op := range ops {
		must(t, d.put(session, op))
	}
	must(t, d.finished(session, "q"))
	shanghai.freeze()
	d.drop()
	must(t, beijing.restart())
	must(t, d.connect(beijing, session))
	for _, op := range ops {
		must(t, d.put(session, op))
	}
	must(t, d.put(session, msg("after", "y")))
	if !d.view(session).Behind {
		t.Error("Beijing does not say that it is behind a client that was in Shanghai")
	}
	if d.safe["after"] {
		t.Error("Beijing calls safe what it alone has")
	}
	shanghai.thaw()
	must(t, d.until("it is not behind", func() bool { return !d.view(session).Behind }))
	other := user(t, "hana", "laptop")
	must(t, other.connect(shanghai, session))
	agree(t, session, func(v *view) bool { return len(v.Entries) == 5 && v.Answered("q") }, d, other)
	wants(t, d.view(session), "q", words(8))
	sameEverywhere(t, d, session, beijing, shanghai)
	for oid, e := range d.view(session).Entries { // a client that believes whatever it heard last must be right as well
		if told := d.view(session).Last[oid]; check.ByPlace(told, e.Item) != 0 || told.Ep != e.Ep {
			t.Errorf("%s stands at %d %s %s; the last that Beijing said of it was %d %s %s",
				oid, e.Seq, e.At, e.Ep, told.Seq, told.At, told.Ep)
		}
	}
}

// TestRestartHearsOfOthers: a region that was down learns what was said elsewhere meanwhile, even if its own command
// line names no other member.
func TestRestartHearsOfOthers(t *testing.T) {
	t.Parallel()
	const session = "ines/down"
	list := sites(t, "beijing", "shanghai")
	beijing, shanghai := list[0], list[1]
	must(t, startAll(list))
	d := user(t, "ines", "phone")
	must(t, d.connect(shanghai, session))
	for i := range 3 {
		beijing.crash()
		oid := fmt.Sprintf("m%d", i)
		must(t, d.put(session, msg(oid, "while you were out")))
		start := time.Now()
		must(t, beijing.restart())
		other := user(t, "ines", "laptop")
		must(t, other.connect(beijing, session))
		must(t, other.until(oid+" came", func() bool { return other.view(session).Entries[oid] != nil }))
		t.Logf("there %v after the start", time.Since(start))
	}
}
