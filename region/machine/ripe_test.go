package machine

import (
	"testing"

	"github.com/roamsync/roam/wire"
)

// feedTo gives one site what another has issued, from the cursor on, and returns what was proposed of it.
func feedTo(to, from *site, ripe bool) (proposed int) {
	to.t.Helper()
	id := from.Self().ID()
	if to.Cursors(7)[id] == from.Cursors(7)[id] {
		return 0
	}
	rs, err := from.Feed(from.Self(), 7, 1, 1<<20)
	if err != nil {
		to.t.Fatal(err)
	}
	if ripe {
		rs = to.Ripe(rs)
	}
	if res := to.do(&Command{Kind: KindIngest, Records: rs}); res.Err != nil {
		to.t.Fatal(res.Err)
	}
	return len(rs.Records)
}

// TestRipe: two sites talk in turn; a third that has missed all of it gets both feeds, each of which waits for the other again and again.
// What it is proposed in all is not much more than there is.
func TestRipe(t *testing.T) {
	const turns, each = 40, 20
	a, b, c := newSite(t, "a"), newSite(t, "b"), newSite(t, "c")
	for range turns {
		for range each {
			a.say(three[0])
		}
		feedTo(b, a, false)
		for range each {
			b.say(three[1])
		}
		feedTo(a, b, false)
	}
	proposed, tries := 0, 0
	for c.Cursors(7)[a.Self().ID()] < turns*each || c.Cursors(7)[b.Self().ID()] < turns*each {
		proposed += feedTo(c, a, true) + feedTo(c, b, true)
		if tries++; tries > 10*turns {
			t.Fatalf("it stands at %v", c.Cursors(7))
		}
	}
	a.same(c)
	b.same(c)
	if all := 2 * turns * each; proposed > 3*all {
		t.Errorf("%d records were proposed to bring %d in", proposed, all)
	}
}

func TestRipeLeavesWhatDoesNotFit(t *testing.T) {
	a, c := newSite(t, "a"), newSite(t, "c")
	for range 3 * ripeAhead {
		a.say(three[0])
	}
	all, err := a.Feed(a.Self(), 7, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	part := all
	part.Records = all.Records[:ripeAhead]
	part.Hash = wire.FeedStart(a.Self(), 7)
	for _, b := range part.Records {
		part.Hash = part.Hash.Next(b)
	}
	if res := c.do(&Command{Kind: KindIngest, Records: part}); res.Err != nil {
		t.Fatal(res.Err)
	}
	if got := c.Ripe(all); got.From != ripeAhead+1 || got.Last() != all.Last() || got.Hash != all.Hash {
		t.Errorf("what is held is proposed again: from %d to %d", got.From, got.Last())
	}
	forked := all
	forked.Records = append([][]byte{all.Records[1]}, all.Records[1:]...)
	gap := all
	gap.From += 2 * ripeAhead
	for what, rs := range map[string]wire.Records{"forked": forked, "gap": gap} {
		if got := c.Ripe(rs); got.From != rs.From || len(got.Records) != len(rs.Records) {
			t.Errorf("%s: from %d, %d records", what, got.From, len(got.Records))
		}
	}
}
