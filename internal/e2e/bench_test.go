package e2e

import (
	"encoding/json"
	"testing"
)

// TestBench has the load generator load two regions, and holds its report to what regions that are well must give.
func TestBench(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	urls := "ws://" + beijing.client + "/v1/connect,ws://" + shanghai.client + "/v1/connect"
	for _, mix := range []string{"put=80,set=10,read=10", "chat"} {
		p, err := beijing.run("bench", nil, binary, "bench", "--url", urls, "--connections", "10", "--rate", "40",
			"--warmup", "200ms", "--duration", "1s", "--payload", "30", "--mix", mix, "--json", "-")
		must(t, err)
		code, err := p.exit(patience)
		must(t, err)
		if code != 0 {
			t.Fatalf("%s: exit status %d: %s\n%s", mix, code, p.errout.tail(), p.out.tail())
		}
		var r struct {
			Acked, Delivered int64
			Latencies        map[string]struct{ Count int64 } `json:"latencies_ms"`
			Answers          map[string]int64
		}
		must(t, json.Unmarshal([]byte(p.out.all()), &r))
		if r.Acked == 0 || r.Delivered == 0 || r.Latencies["put → other device"].Count == 0 {
			t.Errorf("%s: nothing was measured: %+v", mix, r)
		}
		if mix == "chat" && (r.Answers["done"] != r.Acked || r.Latencies["chat → first token"].Count == 0) {
			t.Errorf("answers: %+v", r)
		}
	}
}
