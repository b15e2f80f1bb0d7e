package e2e

import "testing"

// TestForgottenSession: a session that is deleted in one region is gone for whoever has it open in another, an answer under way with it.
// What is put again late is known, and shows nothing; what is put anew has a place after all that there ever was.
func TestForgottenSession(t *testing.T) {
	t.Parallel()
	const session = "ines/gone"
	list := sites(t, "beijing", "shanghai")
	must(t, startAll(list))
	d, other := user(t, "ines", "phone"), user(t, "ines", "laptop")
	must(t, d.connect(list[0], session))
	must(t, other.connect(list[1], session))
	must(t, d.put(session, msg("m", "x")))
	must(t, d.put(session, ask("q", words(400))))
	must(t, other.until("the answer has begun", func() bool { return other.view(session).Bytes > 0 }))
	empty := func(v *view) bool { return len(v.Entries) == 0 }
	must(t, other.put(session, obj{"k": "forget", "oid": "f"}))
	agree(t, session, empty, d, other)
	must(t, d.put(session, msg("m", "x")))
	agree(t, session, empty, d, other)
	must(t, d.put(session, msg("n", "y")))
	agree(t, session, func(v *view) bool { return len(v.Entries) == 1 && v.Entries["n"].Seq == 4 }, d, other)
	sameEverywhere(t, d, session, list...)
}
