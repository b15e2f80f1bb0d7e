package crdt

import (
	"slices"
	"testing"
)

// TestLogIsThePage: Log visits what Page shows, in its order, and no further than it is asked to.
func TestLogIsThePage(t *testing.T) {
	st := NewMem()
	issue := func(f uint64, op Op) {
		op.Stamp = Stamp(f << 16)
		Issue(st, &op, Floor{})
		Apply(st, &op, Dot{Origin: "a.1", ID: 1, F: f})
	}
	if !Blank(st) {
		t.Error("a session that was never written is not blank")
	}
	for i, oid := range []string{"a", "b", "c", "d"} {
		issue(uint64(i+1), Op{Kind: KindMsg, OID: oid, User: "u", Role: "user", Text: oid})
	}
	var got, want []string
	Log(st, func(e *Entry) bool {
		got = append(got, e.OID)
		return len(got) < 3
	})
	page, _ := Page(st, 0, 10)
	for _, e := range page[:3] {
		want = append(want, e.OID)
	}
	if !slices.Equal(got, want) || Blank(st) {
		t.Errorf("visited %v, want %v", got, want)
	}
	forget := forget("f")
	issue(5, forget)
	if !Blank(st) {
		t.Error("a session that was forgotten is not blank")
	}
	issue(6, Op{Kind: KindEdit, OID: "e", Of: "unseen", Text: "secret", User: "u"})
	if Blank(st) {
		t.Error("an edit of a message that is not here yet is left, and the session is blank")
	}
}
