package app

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// told are what operators tell a node that holds data, at an admin address.
func told(t *testing.T, admin string) map[string]func(context.Context, io.Writer) error {
	return map[string]func(context.Context, io.Writer) error{
		"resize": func(ctx context.Context, w io.Writer) error {
			return Resize(ctx, ResizeOptions{Admin: admin, Timeout: time.Minute, Size: 3}, w)
		},
		"leave": func(ctx context.Context, w io.Writer) error {
			return Leave(ctx, LeaveOptions{Admin: admin, Timeout: time.Minute, Node: "n1"}, w)
		},
		"backup": func(ctx context.Context, w io.Writer) error {
			return Backup(ctx, BackupOptions{Admin: admin, Out: filepath.Join(t.TempDir(), "b")}, w, w)
		},
		"region list": func(ctx context.Context, w io.Writer) error {
			return RegionList(ctx, RegionListOptions{Admin: admin, Timeout: time.Minute}, w)
		},
		"region evict": func(ctx context.Context, w io.Writer) error {
			return RegionEvict(ctx, RegionEvictOptions{Admin: admin, Region: "chengdu", Yes: true, Wait: time.Second}, w)
		},
	}
}

// TestAnEdgeIsAskedForData: whatever an edge is told that only a node with data can do, it is said that it is the wrong node.
func TestAnEdgeIsAskedForData(t *testing.T) {
	d := &desk{reg: prometheus.NewRegistry()}
	srv := httptest.NewServer(d.handler(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	for what, tell := range told(t, strings.TrimPrefix(srv.URL, "http://")) {
		var out bytes.Buffer
		if err := tell(t.Context(), &out); err == nil || !strings.Contains(err.Error(), notData) || out.Len() > 0 {
			t.Errorf("%s: %v, and it says %q", what, err, &out)
		}
	}
}

// TestOnlyTheNodeIsAsked: an order is for the node that it is given to, wherever that points.
func TestOnlyTheNodeIsAsked(t *testing.T) {
	strange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else is asked: %s %s", r.Method, r.URL)
	}))
	defer strange.Close()
	srv := httptest.NewServer(http.RedirectHandler(strange.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	admin := strings.TrimPrefix(srv.URL, "http://")
	all := told(t, admin)
	all["status"] = func(ctx context.Context, w io.Writer) error {
		return Status(ctx, StatusOptions{Admin: admin, Timeout: time.Minute}, w)
	}
	all["health"] = func(ctx context.Context, w io.Writer) error {
		return Health(ctx, HealthOptions{Admin: admin, Timeout: time.Minute}, w)
	}
	for what, tell := range all {
		if err := tell(t.Context(), io.Discard); err == nil {
			t.Errorf("%s: an answer that points elsewhere is taken", what)
		}
	}
}

// TestEvictionThatTheNodeDoesNotName: what a node does not speak of is not closed.
func TestEvictionThatTheNodeDoesNotName(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+evictPath, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("region") != "chengdu" || r.FormValue("force") != "false" {
			t.Errorf("the form is %v", r.Form)
		}
	})
	mux.HandleFunc("GET "+regionsPath, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"region":"beijing"}`) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	o := RegionEvictOptions{Admin: strings.TrimPrefix(srv.URL, "http://"), Region: "chengdu", Yes: true}
	var out bytes.Buffer
	if err := RegionEvict(t.Context(), o, &out); err == nil || strings.Contains(out.String(), "is closed") {
		t.Errorf("%v, and it says %q", err, &out)
	}
}
