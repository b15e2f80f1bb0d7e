package e2e

import "testing"

// TestPutAgainElsewhere: a client that has an ok from Shanghai moves to Beijing, which has not heard of the ops yet, and
// puts them again, as the protocol asks for what is not safe. Beijing gives them other places; when it learns of the
// first ones it must say so to the client that it told otherwise.
func TestPutAgainElsewhere(t *testing.T) {
	t.Parallel()
	const session = "hana/again"
	list := sites(t, "beijing", "shanghai")
	beijing, shanghai := list[0], list[1]
	must(t, startAll(list))
	d := user(t, "hana", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.put(session, msg("before", "x")))
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
	if !d.view(session).behind {
		t.Error("Beijing does not say that it is behind a client that was in Shanghai")
	}
	shanghai.thaw()
	must(t, d.until("it is not behind", func() bool { return !d.view(session).behind }))
	other := user(t, "hana", "laptop")
	must(t, other.connect(shanghai, session))
	agree(t, session, func(v *view) bool { return len(v.entries) == 5 && v.answered("q") }, d, other)
	wants(t, d.view(session), "q", words(8))
	sameEverywhere(t, d, session, beijing, shanghai)
}
