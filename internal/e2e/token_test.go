package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// jwt makes a token by hand.
func jwt(t *testing.T, alg string, key []byte, claims obj) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		must(t, err)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	body := part(obj{"alg": alg, "typ": "JWT"}) + "." + part(claims)
	var sum func() hash.Hash
	switch alg {
	case "HS256":
		sum = sha256.New
	case "HS512":
		sum = sha512.New
	default:
		return body + "."
	}
	mac := hmac.New(sum, key)
	mac.Write([]byte(body))
	return body + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestHS256(t *testing.T) {
	t.Parallel()
	key := []byte("a key that is long enough for HS256")
	file := filepath.Join(t.TempDir(), "hs256")
	must(t, os.WriteFile(file, append(key, '\n'), 0o600)) // the newline is not part of the key
	s := sites(t, "wuhan")[0].embedded()
	s.auth = []string{"--auth-hs256-file", file}
	must(t, s.startServe())
	must(t, s.ready())
	hour, past := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()

	d := user(t, "anna", "phone")
	d.token = jwt(t, "HS256", key, obj{"sub": "anna", "exp": hour, "roam": obj{"sessions": obj{"bob/read": "r", "bob/all": "rw"}}})
	must(t, d.connect(s, "anna/own", "bob/read", "bob/all"))
	if d.welcome.User != "anna" {
		t.Errorf("welcome: %s", d.welcome.Raw)
	}
	must(t, d.put("anna/own", msg("m1", "x")))
	must(t, d.put("bob/all", msg("m1", "x")))
	if err := d.put("bob/read", msg("m1", "x")); code(err) != "forbidden" {
		t.Errorf("a put to a session that may be read: %v", err)
	}
	if err := d.connectAgain("bob/other"); code(err) != "forbidden" {
		t.Errorf("a session that was not granted: %v", err)
	}
	refused := map[string]string{
		"expired":         jwt(t, "HS256", key, obj{"sub": "anna", "exp": past}),
		"without exp":     jwt(t, "HS256", key, obj{"sub": "anna"}),
		"without sub":     jwt(t, "HS256", key, obj{"exp": hour}),
		"not yet valid":   jwt(t, "HS256", key, obj{"sub": "anna", "exp": hour, "nbf": hour - 60}),
		"sub is no owner": jwt(t, "HS256", key, obj{"sub": "anna/x", "exp": hour}),
		"none":            jwt(t, "none", nil, obj{"sub": "anna", "exp": hour}),
		"other algorithm": jwt(t, "HS512", key, obj{"sub": "anna", "exp": hour}),
		"other key":       jwt(t, "HS256", []byte("another key, as long as the first"), obj{"sub": "anna", "exp": hour}),
		"dev":             "dev:anna",
		"empty":           "",
	}
	for name, token := range refused {
		d := newDevice("anna", "phone")
		d.token = token
		err := d.connect(s)
		if code(err) != "unauthorized" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if websocket.CloseStatus(err) != 4500 { // the err came without the hello's id, and the close is here already
			if _, err = d.conn.drain(); websocket.CloseStatus(err) != 4500 {
				t.Errorf("%s: closed with %v", name, err)
			}
		}
	}
}
