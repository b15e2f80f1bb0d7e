package app

import "testing"

func TestReserve(t *testing.T) {
	const disk = 1000 << 30
	for s, want := range map[string]uint64{
		"0": 0, "1048576": 1 << 20, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "2%": 20 << 30, "0%": 0, "1TiB": 1 << 40, "7B": 7,
	} {
		got, err := parseReserve(s)
		if err != nil || got(disk) != want {
			t.Errorf("%q: %v, want %d", s, err, want)
		}
	}
	for _, s := range []string{"-1", "100%", "-1%", "5GB", "much", "%", "MiB", "NaN", "NaN%", "Inf", "1e30TiB", "1 GiB"} {
		if _, err := parseReserve(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	if got, err := parseReserve(""); got != nil || err != nil {
		t.Errorf("no reserve: %v", err)
	}
}
