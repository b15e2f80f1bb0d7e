package replication

import "testing"

// TestRegionAt: who connects is known by its address where that is one region's only.
func TestRegionAt(t *testing.T) {
	p := &Pool{peers: map[string]peer{
		"shanghai/n1": {Region: "shanghai", Node: "n1", Addr: "10.0.0.2:7947", Gossip: "10.0.0.2:7946"},
		"shanghai/n2": {Region: "shanghai", Node: "n2", Addr: "n2.shanghai.example:7947", Gossip: "10.0.0.3:7946"},
		"chengdu/n1":  {Region: "chengdu", Node: "n1", Addr: "[fd00::4]:7947", Gossip: "[fd00::4]:7946"},
		"xian/n1":     {Region: "xian", Node: "n1", Addr: "10.0.0.9:7947", Gossip: "10.0.0.9:7946"},
		"wuhan/n1":    {Region: "wuhan", Node: "n1", Addr: "10.0.0.9:8947", Gossip: "10.0.0.9:8946"},
	}}
	for addr, want := range map[string]string{
		"10.0.0.2:7947": "shanghai", "10.0.0.2:51000": "shanghai", "10.0.0.3:51000": "shanghai", "n2.shanghai.example:7947": "shanghai",
		"[fd00::4]:51000": "chengdu", "10.0.0.8:7947": "", "nonsense": "",
		"10.0.0.9:7947": "xian", "10.0.0.9:8947": "wuhan", "10.0.0.9:51000": "", // several regions on one machine
	} {
		if got := p.RegionAt(addr); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}
