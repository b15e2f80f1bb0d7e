package wan

import (
	"testing"

	"go.uber.org/goleak"
)

// memberlist does not wait for its probes when it shuts down; they end by their time-outs.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).triggerFunc"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPullTrigger"))
}
