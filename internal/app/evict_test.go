package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/replication"
	"github.com/roamsync/roam/replication/feeds"
)

// operated is an admin address that says in turn what it is told to.
func operated(t *testing.T, refuse string, reports ...[]replication.Absent) (admin string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+evictPath, func(w http.ResponseWriter, r *http.Request) {
		if refuse != "" {
			http.Error(w, refuse, http.StatusConflict)
			return
		}
		answer(w, "region "+r.FormValue("region")+" is evicted", nil)
	})
	mux.HandleFunc("GET "+regionsPath, func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(regionsReport{"shanghai", reports[0]}); err != nil {
			t.Error(err)
		}
		if len(reports) > 1 {
			reports = reports[1:]
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestRegionEvict: the command does nothing unless it is told twice, shows what closing waits for, and says whether it is through.
func TestRegionEvict(t *testing.T) {
	open := []replication.Absent{{Region: "beijing", Evicted: true, Open: feeds.Open{Partitions: 3, Waits: map[string]string{"guangzhou": "it was not heard"}}}}
	closed := []replication.Absent{{Region: "beijing", Evicted: true}}
	var out bytes.Buffer
	admin := operated(t, "", open, open, closed)
	o := RegionEvictOptions{Admin: admin, Region: "beijing", Wait: 30 * time.Second}
	if err := RegionEvict(context.Background(), o, &out); err == nil || !strings.Contains(err.Error(), "--yes") || out.Len() > 0 {
		t.Errorf("without --yes: %v, %s", err, out.String())
	}
	o.Yes = true
	if err := RegionEvict(context.Background(), o, &out); err != nil {
		t.Error(err)
	}
	const want = "region beijing is evicted\nto be closed: 3 partitions (guangzhou: it was not heard)\nall that it numbered is closed\n"
	if out.String() != want {
		t.Errorf("it says\n%s", out.String())
	}
	o.Admin, o.Wait = operated(t, "", open), time.Millisecond
	if err := RegionEvict(context.Background(), o, &out); !errors.Is(err, ErrNotClosed) || !strings.Contains(err.Error(), "guangzhou") {
		t.Errorf("when it takes longer: %v", err)
	}
	o.Admin = operated(t, "region beijing is there", open)
	if err := RegionEvict(context.Background(), o, &out); err == nil || err.Error() != "region beijing is there" {
		t.Errorf("refused: %v", err)
	}
}

func TestRegionList(t *testing.T) {
	admin := operated(t, "", []replication.Absent{
		{Region: "beijing", Evicted: true, Bound: "05", Open: feeds.Open{Partitions: 64}}, {Region: "chengdu", Heard: true, Bound: "05", Back: "07", Alive: []string{"chengdu/n1"}},
		{Region: "guangzhou"}, {Region: "harbin", Heard: true},
	})
	var out bytes.Buffer
	if err := RegionList(context.Background(), RegionListOptions{Admin: admin, Timeout: time.Minute}, &out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"shanghai here", "beijing evicted none 64 partitions (under way)", "chengdu back after an eviction chengdu/n1 -", "guangzhou not heard none -", "harbin heard none -"} {
		found := false
		for _, l := range strings.Split(out.String(), "\n") {
			found = found || strings.Contains(strings.Join(strings.Fields(l), " "), line)
		}
		if !found {
			t.Errorf("no line says %q:\n%s", line, out.String())
		}
	}
}
