package wan

import (
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/internal/check"
)

// heard is a session of two regions in which all is well: three messages, one of which asks and is answered.
func heard() (*talk, *world, [][]check.Item) {
	w := &world{regions: []*region{{name: "a"}, {name: "b"}}}
	t := newTalk("u/s", "u", 2, time.Now())
	t.devices = []*device{{t: t, home: "a"}, {t: t, index: 1, home: "b"}}
	now := t.start.Add(time.Second)
	for i, oid := range []string{"m0", "m1", "m2"} {
		t.sending(i%2, oid, 0, i == 2, i)
		t.stored([]tapped{{OID: oid}}, now)
		t.shown(1-i%2, []tapped{{K: "msg", OID: oid}}, now)
	}
	t.shown(0, []tapped{{K: "run", OID: "r", Of: "m2", State: "done"}}, now)
	text := "yes"
	log := []check.Item{{K: "msg", OID: "m0", Seq: 1}, {K: "msg", OID: "m1", Seq: 2}, {K: "msg", OID: "m2", Seq: 3},
		{K: "run", OID: "r", Of: "m2", State: "done", Text: &text, Sum: check.Digest(text), Seq: 4}}
	return t, w, [][]check.Item{log, append([]check.Item(nil), log...)}
}

func TestAuditFindsWhatIsPlanted(t *testing.T) {
	for _, c := range []struct {
		name, want string
		plant      func(t *talk, logs [][]check.Item)
	}{
		{"nothing", "", func(*talk, [][]check.Item) {}},
		{"lost in one region", "1 lost", func(_ *talk, logs [][]check.Item) { logs[1] = logs[1][1:] }},
		{"twice", "1 twice", func(_ *talk, logs [][]check.Item) { logs[0] = append(logs[0], logs[0][1]) }},
		{"never put", "unknown", func(_ *talk, logs [][]check.Item) { logs[1][1].OID = "x" }},
		{"another order", "out of order", func(_ *talk, logs [][]check.Item) { logs[1][0], logs[1][2] = logs[1][2], logs[1][0] }},
		{"before what its user was shown", "2 out of order", func(k *talk, _ [][]check.Item) { k.puts["m1"].after = 2 }},
		{"not acknowledged", "1 never acknowledged", func(k *talk, _ [][]check.Item) { k.puts["m1"].ok = 0 }},
		{"not shown", "1 not shown", func(k *talk, _ [][]check.Item) { k.puts["m0"].shown[1] = 0 }},
		{"no answer", "answers wrong", func(_ *talk, logs [][]check.Item) { logs[0] = logs[0][:3] }},
		{"two answers", "answers wrong", func(_ *talk, logs [][]check.Item) { logs[0] = append(logs[0], logs[0][3]) }},
		{"another sum", "answers wrong", func(_ *talk, logs [][]check.Item) { logs[1][3].Sum = "0" }},
	} {
		talk, w, logs := heard()
		c.plant(talk, logs)
		f := &Findings{}
		talk.hold(f, w, logs)
		if got := f.Wrong(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStateOfEqualCursorsMustBeEqual(t *testing.T) {
	part := func(f uint64, digest string) nodeStatus {
		var s nodeStatus
		s.Partitions = append(s.Partitions, partition{Cursors: map[string]uint64{"o": f}, Digest: digest})
		return s
	}
	a, same, behind, other := part(5, "x"), part(5, "x"), part(4, "y"), part(5, "y")
	if err := sameState(&a, &same); err != nil {
		t.Error(err)
	}
	if err := sameState(&a, &behind); err == nil || strings.Contains(err.Error(), errDigest.Error()) {
		t.Errorf("behind: %v", err)
	}
	if err := sameState(&a, &other); err == nil || !strings.Contains(err.Error(), errDigest.Error()) {
		t.Errorf("another digest: %v", err)
	}
}
