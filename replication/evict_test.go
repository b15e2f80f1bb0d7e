package replication

import (
	"strings"
	"testing"
)

// TestUnansweredSeedsAreNamed: who waits for a region to be closed is told of seeds that keep that from happening.
func TestUnansweredSeedsAreNamed(t *testing.T) {
	p := &Pool{owed: map[string]struct{}{"10.0.0.1:7946": {}}}
	why := map[string]string{}
	p.unanswered(why)
	if !strings.Contains(why["seed 10.0.0.1:7946"], "take it out of --join") {
		t.Errorf("%v", why)
	}
	p.answered("10.0.0.1:7946")
	why = map[string]string{}
	if p.unanswered(why); len(why) > 0 {
		t.Errorf("when it has answered: %v", why)
	}
}
