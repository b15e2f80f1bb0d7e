package feeds

import (
	"testing"

	"github.com/roamsync/roam/crdt"
)

func TestFollows(t *testing.T) {
	beijing, old, self := crdt.NewOrigin("beijing", 1), crdt.NewOrigin("shanghai", 1), crdt.NewOrigin("shanghai", 2)
	for _, c := range []struct {
		what   string
		origin crdt.Origin
		from   string
		up     []string
		ahead  bool
		want   bool
	}{
		{"from home, even if there is nothing yet", beijing, "beijing", []string{"beijing"}, false, true},
		{"not by relay while home answers", beijing, "guangzhou", []string{"beijing", "guangzhou"}, true, false},
		{"by relay when home does not", beijing, "guangzhou", []string{"guangzhou"}, true, true},
		{"not from one who has no more", beijing, "guangzhou", []string{"guangzhou"}, false, false},
		{"what we lost, from anyone", old, "beijing", []string{"beijing"}, true, true},
		{"never what we issue", self, "beijing", []string{"beijing"}, true, false},
	} {
		up := map[string]bool{}
		for _, r := range c.up {
			up[r] = true
		}
		if got := follows(c.origin, self, c.from, up, c.ahead); got != c.want {
			t.Errorf("%s: %t", c.what, got)
		}
	}
}
