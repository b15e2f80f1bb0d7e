package dispatch

import (
	"testing"

	"github.com/roamsync/roam/crdt"
)

func TestOneAnswerAQuestionIsShown(t *testing.T) {
	answer := func(of, oid, model string, state crdt.RunState) *crdt.Entry {
		return &crdt.Entry{OID: oid, Run: &crdt.Run{Of: of, Model: model, State: state}}
	}
	log := []*crdt.Entry{
		answer("other", "o1", "b", crdt.RunDone), answer("other", "o2", "c", crdt.RunDone),
		answer("same", "s1", "b", crdt.RunDone), answer("same", "s2", "a", crdt.RunDone), answer("same", "s3", "c", crdt.RunDone),
		answer("again", "g1", "a", crdt.RunDone), answer("again", "g2", "a", crdt.RunStopped), answer("again", "g3", "a", crdt.RunRunning),
		answer("failed", "f1", "b", crdt.RunDone), answer("failed", "f2", "a", crdt.RunFailed),
		answer("later", "l1", "a", crdt.RunFailed), answer("later", "l2", "b", crdt.RunDone),
		answer("none", "n1", "a", crdt.RunQueued),
	}
	want := map[string]string{"other": "o1", "same": "s2", "again": "g2", "failed": "f1", "later": "l2"}
	got := shownAnswers(log, "a")
	for of, oid := range want {
		if e := got[of]; e == nil || e.OID != oid {
			t.Errorf("%s: %+v, want %s", of, e, oid)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d questions have an answer, want %d", len(got), len(want))
	}
}

func TestSessionsModelIsAskedWhenNoneWasNamed(t *testing.T) {
	for _, c := range []struct{ asked, setting, want string }{
		{"a", `"b"`, "a"}, {"", `"b"`, "b"}, {"", `7`, ""}, {"", ``, ""}, {"", `null`, ""},
	} {
		if got := askedModel(c.asked, map[string][]byte{"model": []byte(c.setting)}); got != c.want {
			t.Errorf("asked %q, setting %s: %q, want %q", c.asked, c.setting, got, c.want)
		}
	}
}
