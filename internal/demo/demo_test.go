package demo

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func play(t *testing.T, f *fake) (Report, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	r, err := Run(ctx, Config{Regions: f.regions(), Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return r, out.String()
}

func TestPlays(t *testing.T) {
	f := newFake()
	defer f.close()
	r, out := play(t, f)
	if !r.OK() || r.Messages != 2+4*chorus || r.Answers != 2 || len(r.Holders) != 4 {
		t.Fatalf("%+v\n%s", r, out)
	}
	for _, want := range []string{"✂ beijing connection cut at byte", "shanghai: resumed in", "0 lost, 0 duplicated, same order everywhere"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not shown:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours where there is no terminal")
	}
	t.Log(out)
}

// TestRecorderCounts: what a region sends twice is counted although everybody ends with the right text.
func TestRecorderCounts(t *testing.T) {
	f := newFake()
	defer f.close()
	var n atomic.Int64
	f.fault = func(o object) []object {
		if o["t"] == "tok" {
			if n.Add(1) == 5 {
				return []object{o, o}
			}
		}
		return []object{o}
	}
	r, out := play(t, f)
	if r.OK() || r.Lost != 0 || r.Duplicated == 0 {
		t.Fatalf("a piece sent twice: %+v\n%s", r, out)
	}
}

func TestConfig(t *testing.T) {
	if _, err := Run(context.Background(), Config{Regions: []Region{{Name: "a"}}}); err == nil {
		t.Error("one region is enough?")
	}
}
