package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, path string) (int, string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b), w.Header()
}

func TestHandler(t *testing.T) {
	h := Handler(func() []Region { return []Region{{"beijing", "ws://127.0.0.1:1/v1/connect"}} })
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		code, body, header := get(t, h, path)
		if code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), kind) || body == "" {
			t.Errorf("%s: %d %s, %d bytes", path, code, header.Get("Content-Type"), len(body))
		}
		if far := regexp.MustCompile(`(src|href)="(https?:)?//|@import|url\(`).FindString(body); far != "" {
			t.Errorf("%s takes something from elsewhere: %s", path, far)
		}
	}
	want := `[{"name":"beijing","url":"ws://127.0.0.1:1/v1/connect"}]`
	if _, body, _ := get(t, h, "/regions.json"); strings.TrimSpace(body) != want {
		t.Errorf("regions: %s", body)
	}
	if code, _, _ := get(t, h, "/other"); code != http.StatusNotFound {
		t.Errorf("/other: %d", code)
	}
}
