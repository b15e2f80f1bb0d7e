package openai

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Reasons of failures: label values.
const (
	reasonUnreachable = "unreachable" // no connection
	reasonDenied      = "denied"      // the key
	reasonUnknown     = "unknown"     // the model or the path
	reasonRefused     = "refused"     // the request
	reasonBusy        = "busy"
	reasonUpstream    = "upstream" // the server failed
	reasonBroken      = "broken"   // what came is not an answer, or not a whole one
	reasonLate        = "late"
)

// failure is why there is no whole answer. Its text goes to everybody who reads the session, so it has no address and no
// key; its detail is for the log.
type failure struct {
	reason string
	text   string
	detail string
	status int
	body   string        // of a refusal
	again  bool          // another try may succeed
	after  time.Duration // how long the server asks to wait before
}

// Error implements error.
func (f *failure) Error() string { return f.text }

// refuses reports whether a request was refused for a field.
func (f *failure) refuses(field string) bool {
	return (f.status == http.StatusBadRequest || f.status == http.StatusUnprocessableEntity) && strings.Contains(f.body, field)
}

const (
	// maxBody bounds what is read of a refusal, maxQuote what of it is told, in bytes.
	maxBody  = 64 << 10
	maxQuote = 300
	// maxAfter bounds the wait that a server may ask for; who asks for a longer one is not asked again.
	maxAfter = 30 * time.Second
)

// refusal is the failure that a response is, nil if it is an answer.
func refusal(res *http.Response, model string, key secret) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode == http.StatusOK && kind != "application/json" && kind != "text/html" {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxBody))
	said := parseError(body)
	f := &failure{status: res.StatusCode, body: string(body), detail: key.quote(string(body))}
	if to := res.Header.Get("Location"); to != "" {
		f.detail = "to " + key.quote(to)
	}
	f.explain(model, said)
	if said.Message != "" {
		f.text += fmt.Sprintf("; it says: %q", key.quote(said.Message))
	} else if kind == "text/html" {
		f.text += "; it sent a web page: is --base-url that of the API (it mostly ends with /v1), and is no proxy before it?"
	}
	if f.after = retryAfter(res.Header, time.Now()); f.again && f.after > maxAfter {
		f.again = false
		f.text += fmt.Sprintf("; it asks to wait for %s", f.after.Round(time.Second))
	}
	return f
}

// explain says what a status means here and what to do about it.
func (f *failure) explain(model string, said upstreamError) {
	switch s := f.status; {
	case s == http.StatusOK:
		f.reason, f.text = reasonBroken, "the model's server did not stream: check --base-url"
	case s < 400:
		f.reason, f.text = reasonUnknown, fmt.Sprintf("the model's server has moved (%d): set --base-url to where it is now", s)
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		f.reason, f.text = reasonDenied, fmt.Sprintf("the model's server does not accept the key (%d): check --api-key-file, and that the key may use %q", s, model)
	case s == http.StatusNotFound || s == http.StatusMethodNotAllowed:
		f.reason, f.text = reasonUnknown, fmt.Sprintf("the model's server does not know model %q or the path (%d): check --models and --base-url", model, s)
	case s == http.StatusRequestEntityTooLarge || said.tooLong():
		f.reason, f.text = reasonRefused, fmt.Sprintf("the prompt is too long for model %q (%d): lower --context-tokens", model, s)
	case s == http.StatusTooManyRequests && slices.Contains([]string{said.code(), said.Type}, "insufficient_quota"):
		f.reason, f.text = reasonDenied, "the quota of the key is used up (429): see its plan and billing"
	case s == http.StatusTooManyRequests:
		f.reason, f.again, f.text = reasonBusy, true, "the model's server takes no more requests (429): lower --concurrency, or have its limit raised"
	case s >= 500:
		f.reason, f.again, f.text = reasonUpstream, s != http.StatusNotImplemented, fmt.Sprintf("the model's server failed (%d): see its log", s)
	default:
		f.reason, f.again, f.text = reasonRefused, s == http.StatusRequestTimeout, fmt.Sprintf("the model's server refused the request (%d): check the session's settings", s)
	}
}

// upstreamError is what a server says of a failure; servers write it in several ways.
type upstreamError struct {
	Message string          `json:"message"`
	Type    string          `json:"type"`
	Code    json.RawMessage `json:"code"`
}

func parseError(body []byte) (e upstreamError) {
	var whole struct {
		Error  json.RawMessage `json:"error"`
		Detail json.RawMessage `json:"detail"`
	}
	_ = json.Unmarshal(body, &e)
	if json.Unmarshal(body, &whole) != nil {
		return e
	}
	for _, raw := range []json.RawMessage{whole.Error, whole.Detail} {
		if present(raw) && json.Unmarshal(raw, &e) != nil && json.Unmarshal(raw, &e.Message) != nil {
			e.Message = string(raw)
		}
	}
	return e
}

// code is a word, or a number as text.
func (e *upstreamError) code() string { return strings.Trim(string(e.Code), `"`) }

// tooLong reports whether the prompt was longer than the model's context, in the words of the common servers.
func (e *upstreamError) tooLong() bool {
	low := strings.ToLower(e.Message)
	return e.code() == "context_length_exceeded" || e.Type == "exceed_context_size_error" ||
		strings.Contains(low, "context length") || strings.Contains(low, "context size")
}

// inStream is the failure that a server reports in an event.
func inStream(data []byte, key secret) *failure {
	said := parseError(data)
	f := &failure{reason: reasonUpstream, text: "the model's server failed in the middle of the answer: see its log", detail: key.quote(string(data))}
	if status, err := strconv.Atoi(said.code()); err == nil && status >= 400 {
		f.again = status == http.StatusTooManyRequests || status >= 500
	}
	if said.Message != "" {
		f.text += fmt.Sprintf("; it says: %q", key.quote(said.Message))
	}
	return f
}

// late is the failure of a server that took too long.
func late(cause error) *failure {
	flag := map[error]string{errTotal: "--answer-timeout", errFirstToken: "--first-token-timeout", errIdle: "--idle-timeout"}[cause]
	what := map[error]string{errTotal: "an answer", errFirstToken: "a first token", errIdle: "a next token"}[cause]
	return &failure{reason: reasonLate, text: fmt.Sprintf("the model's server did not send %s in time: see its load, or raise %s", what, flag)}
}

// unreachable is the failure of a request that got no response.
func unreachable(err error) *failure {
	f := &failure{reason: reasonUnreachable, detail: err.Error(), text: "the model's server cannot be reached: check --base-url"}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		f.text, f.again = "the name of the model's server cannot be resolved: check --base-url", dns.IsTemporary
	case errors.As(err, &cert):
		f.text = "the certificate of the model's server is not trusted: install its CA on this machine"
	case errors.Is(err, http.ErrSchemeMismatch):
		f.text = "the model's server does not speak TLS: --base-url is to begin with http://"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.text, f.again = "the model's server refuses the connection: check that it runs, and --base-url", true
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.text, f.again = "the model's server dropped the connection before it answered: see its log", true
	case errors.As(err, &timeout) && timeout.Timeout():
		f.text, f.again = "the model's server does not take connections: check --base-url, and firewalls", true
	}
	return f
}

// retryAfter is how long a server asks to wait: in milliseconds, in seconds, or until a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return span(ms * float64(time.Millisecond))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return span(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// span is a duration of nanoseconds that somebody else wrote.
func span(ns float64) time.Duration {
	if ns > 0 {
		return time.Duration(min(ns, float64(24*time.Hour)))
	}
	return 0
}

// secret is a key that nothing is to show; empty if there is none.
type secret string

// quote is the beginning of what a server said, as one line without the key: some repeat the key that they refuse.
func (k secret) quote(s string) string {
	s = k.hide(strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " "))
	if len(s) > maxQuote {
		s = strings.ToValidUTF8(s[:maxQuote], "") + "…"
	}
	return s
}

// minKeyPart is how much of the beginning of a key gives a word away as that key, also if its rest is masked.
const minKeyPart = 8

// hide takes out every word that has the key, or its beginning with the rest masked.
func (k secret) hide(s string) string {
	if k == "" {
		return s
	}
	part := string(k)
	if len(k) >= 2*minKeyPart {
		part = part[:minKeyPart]
	}
	words := strings.Split(s, " ")
	for i, w := range words {
		if strings.Contains(w, part) {
			words[i] = "[key]"
		}
	}
	return strings.Join(words, " ")
}
