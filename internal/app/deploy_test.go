package app

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/gateway"
)

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sixteen bytes of key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var out bytes.Buffer
	if err := Token(TokenOptions{HS256File: file, User: "anna", TTL: time.Hour}, now, &out); err != nil {
		t.Fatal(err)
	}
	auth := gateway.HS256{Key: []byte("sixteen bytes of key"), Now: func() time.Time { return now.Add(59 * time.Minute) }}
	id, err := auth.Authenticate(strings.TrimSpace(out.String()))
	if err != nil || id.User != "anna" || id.Service {
		t.Errorf("the gateway makes %+v of it, %v", id, err)
	}
	auth.Now = func() time.Time { return now.Add(61 * time.Minute) }
	if _, err := auth.Authenticate(strings.TrimSpace(out.String())); err == nil {
		t.Error("the token outlives its --ttl")
	}
	for flag, o := range map[string]TokenOptions{
		"--user":       {HS256File: file, User: "a/b", TTL: time.Hour},
		"--ttl":        {HS256File: file, User: "anna"},
		"at most":      {HS256File: file, User: "anna", TTL: maxTokenTTL + 1},
		"--hs256-file": {HS256File: file + "x", User: "anna", TTL: time.Hour},
	} {
		if err := Token(o, now, &out); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		w.Write([]byte("words of the node\n"))
	}))
	defer srv.Close()
	o := HealthOptions{Admin: strings.TrimPrefix(srv.URL, "http://"), Timeout: 10 * time.Second}
	if err := Health(context.Background(), o, &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
	status = http.StatusServiceUnavailable
	if err := Health(context.Background(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "words of the node") {
		t.Errorf("a node that is not ready: %v", err)
	}
	for _, bad := range []HealthOptions{{Admin: "nowhere", Timeout: time.Second}, {Admin: o.Admin}} {
		if err := Health(context.Background(), bad, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestAdvertised: an address that nobody else could use is refused before it reaches anybody.
func TestAdvertised(t *testing.T) {
	good := ServeOptions{
		ClientAddr: "0.0.0.0:8080", AdvertiseURL: "ws://b1:8080/v1/connect", ClusterAddr: ":7946", PeerAddr: "[::]:7947", AdvertiseHost: "b1",
	}
	if err := good.checkAdvertised(); err != nil {
		t.Error(err)
	}
	if got := good.advertised("[::]:7947"); got != "b1:7947" {
		t.Errorf("advertises %s", got)
	}
	if got := (&ServeOptions{}).advertised("10.0.0.1:7947"); got != "10.0.0.1:7947" {
		t.Errorf("advertises %s", got)
	}
	for flag, spoil := range map[string]func(*ServeOptions){
		"--advertise-host": func(o *ServeOptions) { o.AdvertiseHost = "b1:7947" },
		"--cluster-addr":   func(o *ServeOptions) { o.AdvertiseHost, o.PeerAddr = "", "10.0.0.1:7947" },
		"--peer-addr":      func(o *ServeOptions) { o.AdvertiseHost, o.ClusterAddr = "", "10.0.0.1:7946" },
		"--advertise-url":  func(o *ServeOptions) { o.AdvertiseURL = "" },
	} {
		o := good
		spoil(&o)
		if err := o.checkAdvertised(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
