package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/roamsync/roam/region/salvage"
)

// asked is a node's admin address, and how often it was asked and connected to.
type asked struct {
	addr             string
	requests, conned atomic.Int32
}

// newAsked starts one that answers questions about disks with a status and words.
func newAsked(t *testing.T, status int, words string) *asked {
	t.Helper()
	a := &asked{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.requests.Add(1)
		var q heldAsked
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != salvageHeld || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("it is asked %s %s, %v: %v", r.Method, r.URL, r.Header, err)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, words)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			a.conned.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	a.addr = strings.TrimPrefix(srv.URL, "http://")
	return a
}

// TestSalvagerFindsTheLeader: nodes that are down, stop or do not lead are passed by, once, and who leads is asked over one connection.
func TestSalvagerFindsTheLeader(t *testing.T) {
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down.Close()
	follows := newAsked(t, http.StatusMisdirectedRequest, "this node does not lead partition 3")
	stops := newAsked(t, http.StatusServiceUnavailable, "this node is stopping")
	leads := newAsked(t, http.StatusOK, `[{"cursor":7}]`)
	c := &salvager{admins: []string{down.Addr().String(), follows.addr, stops.addr, leads.addr}}
	for range 5 {
		all, err := c.Held(t.Context(), 3, []salvage.Mark{{}})
		if err != nil || len(all) != 1 || all[0].Cursor != 7 {
			t.Fatalf("%+v, %v", all, err)
		}
	}
	if follows.requests.Load() != 1 || stops.requests.Load() != 1 || leads.requests.Load() != 5 || leads.conned.Load() != 1 {
		t.Errorf("who follows is asked %d times, who stops %d, who leads %d over %d connections",
			follows.requests.Load(), stops.requests.Load(), leads.requests.Load(), leads.conned.Load())
	}
}

// TestSalvagerIsRefused: what the leader refuses is not asked of another node, and a command that is ended asks nobody.
func TestSalvagerIsRefused(t *testing.T) {
	leads, other := newAsked(t, http.StatusConflict, "this region numbers nothing now"), newAsked(t, http.StatusOK, "[]")
	c := &salvager{admins: []string{leads.addr, other.addr}}
	if _, err := c.Held(t.Context(), 3, nil); err == nil || !strings.Contains(err.Error(), "numbers nothing now") || !strings.Contains(err.Error(), leads.addr) {
		t.Errorf("a refusal: %v", err)
	}
	garbled := newAsked(t, http.StatusOK, "[{")
	if _, err := (&salvager{admins: []string{garbled.addr, other.addr}}).Held(t.Context(), 3, nil); err == nil || !strings.Contains(err.Error(), "its answer") {
		t.Errorf("an answer that is cut short: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Held(ctx, 3, nil); err == nil {
		t.Error("a command that was ended has an answer")
	}
	if other.requests.Load() != 0 {
		t.Error("another node is asked for what the leader refused")
	}
}

// TestSalvageRefuses: what cannot be taken in says why, and costs nobody anything.
func TestSalvageRefuses(t *testing.T) {
	w := newWorld(t, "shanghai")
	w.put("shanghai", "m1")
	n := w.nodes["shanghai"]
	if _, err := w.salvage("shanghai", n.opts.Data, nil); err == nil || !strings.Contains(err.Error(), "is a node running in") {
		t.Errorf("a node that runs: %v", err)
	}
	if _, err := w.salvage("shanghai", t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "no node's directory") {
		t.Errorf("an empty directory: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.salvage("shanghai", n.opts.Data, func(o *RegionSalvageOptions) { o.Work = full }); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("--work that is not empty: %v", err)
	}
	for path, bodies := range map[string][]string{
		salvageHeld:   {`{`, `{"partition":64}`, `{"at":[{"origin":"nonsense","f":1}]}`},
		salvageExpect: {`{"ends":[{"Origin":"beijing.0000000000000001","Partition":3,"F":1}]}`},
		salvageTake: {`{"origin":"beijing.0000000000000001","from":1,"hash":"AA=="}`, `{"origin":"beijing.0000000000000001","from":1,"records":["AA=="],"hash":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
			`{"origin":"beijing.0000000000000001","from":7,"hash":"AAAAAAAAAAAAAAAAAAAAAA=="}`},
	} {
		for _, body := range bodies {
			resp, err := http.Post("http://"+n.opts.AdminAddr+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusConflict {
				t.Errorf("%s %s: %s", path, body, resp.Status)
			}
		}
	}
	w.put("shanghai", "m2")
}
