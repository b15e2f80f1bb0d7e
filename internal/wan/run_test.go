package wan

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestInMemory plays a scenario of everything that the network in memory does, as where namespaces are not permitted.
func TestInMemory(t *testing.T) {
	var said bytes.Buffer
	rep, err := Run(t.Context(), Config{Memory: true, Shared: true, Out: &said, Regions: 2, Delay: 5 * time.Millisecond, Trials: 2, Behind: 500, Scenarios: []Scenario{
		{Name: "all", Length: 3 * second, Rate: 40, Sessions: 4, Asks: 0.05, Watched: true, Base: Shape{Loss: 0.02, Jitter: 2 * time.Millisecond, Duplicate: 0.01},
			Acts: []Act{{At: second / 4, From: 0, To: 1, Shape: cut}, {At: second / 2, From: 0, To: 1}, {At: 3 * second / 4, Do: Kill, From: 1},
				{At: second, Do: Wipe, From: 1}, {At: second, Do: Start, From: 1}, {At: 2 * second, Do: Skew, From: 0, Offset: time.Minute}}},
		{Name: "resume", Kind: Resume, Length: second},
		{Name: "catchup", Kind: CatchUp, Length: second, Rate: 20, Sessions: 2},
	}})
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	if wrong := rep.Wrong(); wrong != "" {
		t.Errorf("%s\n%s", wrong, &said)
	}
	if !strings.Contains(said.String(), "IN MEMORY") {
		t.Errorf("it does not say that there are no namespaces:\n%s", &said)
	}
	var table, picture bytes.Buffer
	if err := rep.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"put → delivered p99", "not covered, p50 of 2 moves", "ops behind", "all once, in order, in every region"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &table)
		}
	}
	rep.Picture(&picture)
	for dec := xml.NewDecoder(&picture); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture: %v", err)
		}
	}
}

func TestScenariosArePlayable(t *testing.T) {
	for name, list := range map[string][]Scenario{"long": Long(), "short": Short()} {
		seen := map[string]bool{}
		for _, sc := range list {
			if seen[sc.Name] || sc.About == "" || sc.Length <= 0 {
				t.Errorf("%s: %+v", name, sc)
			}
			seen[sc.Name] = true
			if (sc.Kind == Load || sc.Kind == Redis || sc.Kind == CatchUp) && (sc.Rate <= 0 || sc.Sessions <= 0) {
				t.Errorf("%s: %s has no load", name, sc.Name)
			}
			var last time.Duration
			for _, a := range sc.Acts {
				if a.At < last || a.At >= sc.Length || a.From < Any || a.From > 2 || a.To < Any || a.To > 2 {
					t.Errorf("%s: %s: %+v", name, sc.Name, a)
				}
				last = a.At
			}
			for _, trouble := range troubles(&sc) {
				if trouble[1] <= trouble[0] || trouble[1] > sc.Length {
					t.Errorf("%s: %s: in trouble %v", name, sc.Name, trouble)
				}
			}
			if list := troubles(&sc); len(sc.Acts) > 0 && (len(list) == 0 || list[len(list)-1][1] == sc.Length) {
				t.Errorf("%s: %s does not end well: %v", name, sc.Name, list)
			}
		}
		cfg := Config{Scenarios: list}
		if err := cfg.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		cfg.Regions = 2
		if err := cfg.check(); err == nil {
			t.Errorf("%s is played in two regions", name)
		}
	}
}
