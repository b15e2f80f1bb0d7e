package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
)

// saying is an output that a test can wait on.
type saying struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	news chan struct{}
}

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Write(b)
	select {
	case s.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

// until waits for a word, and returns all that was said.
func (s *saying) until(t *testing.T, word string) string {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		all := s.buf.String()
		s.mu.Unlock()
		if strings.Contains(all, word) {
			return all
		}
		select {
		case <-s.news:
		case <-limit.C:
			t.Fatalf("%q was not said: %s", word, all)
		}
	}
}

// startDev runs `roam dev` until the test ends, and returns where its first region takes clients.
func startDev(t *testing.T) (addrs map[string]string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, done := &saying{news: make(chan struct{}, 1)}, make(chan error, 1)
	o := DevOptions{Regions: []string{"beijing", "shanghai"}, WanDelay: time.Millisecond, Redis: embedded, LogLevel: "error"}
	go func() { done <- Dev(ctx, o, out, t.Output()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	addrs = map[string]string{}
	for line := range strings.Lines(out.until(t, " chat --url ")) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "ready" {
			addrs[strings.TrimPrefix(f[1], "region=")] = strings.TrimPrefix(f[3], "client=")
		}
	}
	return addrs
}

func call(t *testing.T, method, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func states(t *testing.T, addr string) map[string]string {
	t.Helper()
	code, body := call(t, "GET", "http://"+addr+"/dev/v1/regions")
	var all []struct{ Name, State string }
	if err := json.Unmarshal([]byte(body), &all); code != 200 || err != nil {
		t.Fatal(code, body, err)
	}
	m := map[string]string{}
	for _, r := range all {
		m[r.Name] = r.State
	}
	return m
}

// TestDevKillsAndStartsRegions: a conversation goes on while the region that it is in is killed in the middle of an
// answer and started again; nothing is lost and nothing comes twice.
func TestDevKillsAndStartsRegions(t *testing.T) {
	t.Parallel() // it waits, mostly
	at := startDev(t)
	shanghai := "http://" + at["shanghai"] + "/dev/v1/regions"
	c, err := client.New(client.Config{
		Regions: []client.Region{{Name: "beijing", URL: "ws://" + at["beijing"] + "/v1/connect"}}, Device: "phone",
		Token: func(context.Context) (string, error) { return "dev:alice", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	s, err := c.Session("alice/trip")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("nothing is lost ", 20)
	ask, err := s.Send(text, client.SendOptions{Ask: true})
	if err != nil {
		t.Fatal(err)
	}
	for st := range s.Watch(ctx) {
		if a := st.Answers(ask.OID()); len(a) == 1 && len(a[0].Text) > 20 {
			break
		}
	}
	if code, body := call(t, "POST", shanghai+"/beijing/kill"); code != http.StatusNoContent {
		t.Fatal(code, body)
	}
	if got := states(t, at["shanghai"]); got["beijing"] != "killed" || got["shanghai"] != "up" {
		t.Errorf("states %v", got)
	}
	after, err := s.Send("meanwhile", client.SendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := after.Wait(ctx, client.Stored); err != nil { // in Shanghai
		t.Fatal(err)
	}
	if code, body := call(t, "POST", shanghai+"/beijing/start"); code != http.StatusNoContent {
		t.Fatal(code, body)
	}
	for st := range s.Watch(ctx) {
		if a := st.Answers(ask.OID()); len(a) == 1 && a[0].Closed() {
			if len(st.Log) != 3 || a[0].Text != strings.TrimSpace(text) && a[0].Text != text {
				t.Errorf("%d entries, answer %q", len(st.Log), a[0].Text)
			}
			break
		}
	}
	if err := after.Wait(ctx, client.Safe); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDevSwitchesAreGuarded: what makes no sense is refused in words, and so are pages of other sites.
func TestDevSwitchesAreGuarded(t *testing.T) {
	at := startDev(t)
	beijing, shanghai := "http://"+at["beijing"]+"/dev/v1/regions", "http://"+at["shanghai"]+"/dev/v1/regions"
	for _, c := range []struct {
		url    string
		code   int
		header []string
	}{
		{shanghai + "/beijing/start", http.StatusConflict, nil},
		{shanghai + "/nowhere/kill", http.StatusNotFound, nil},
		{beijing + "/shanghai/kill", http.StatusForbidden, []string{"Host", "evil.example"}},
		{beijing + "/shanghai/kill", http.StatusForbidden, []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}},
	} {
		if code, body := call(t, "POST", c.url, c.header...); code != c.code {
			t.Errorf("%s: %d %s", c.url, code, body)
		}
	}
	call(t, "POST", shanghai+"/shanghai/kill") // whoever is asked to kill itself cannot answer
	if code, _ := call(t, "POST", beijing+"/shanghai/kill"); code != http.StatusConflict && code != http.StatusNoContent {
		t.Errorf("shanghai: %d", code)
	}
}
