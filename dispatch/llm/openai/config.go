package openai

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says which server to ask and how long to wait for it. Zero numbers mean the default.
type Config struct {
	// BaseURL is what "/chat/completions" is appended to. Required: http or https, without user, query or fragment.
	BaseURL string
	// APIKey is sent as bearer token; empty sends none.
	APIKey string
	// Upstream maps a model's name here to its name there; a name that is not in it is the same there.
	Upstream map[string]string
	// ContextTokens bounds the prompt, in tokens as estimated here; default 8192, at least 256.
	ContextTokens int
	// FirstToken is how long the first token may take, from the request on; default 2 min.
	FirstToken time.Duration
	// Idle is how long one token may take after another; default 1 min.
	Idle time.Duration
	// Total is how long an answer may take with all its tries; what has come by then is cut with "length". Default 10 min.
	Total time.Duration
	// Retries is how often a request that brought no text is made again; default 3, below zero never, at most 10.
	Retries int
	// Backoff is the longest wait before the second try, and doubles with each; default 500 ms.
	Backoff time.Duration
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// Registerer gets the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// Bounds of a configuration.
const (
	MinContextTokens = 256
	MaxContextTokens = 4 << 20
	MaxRetries       = 10
	maxBackoff       = 30 * time.Second
)

func (c *Config) check() error {
	var errs []error
	u, err := url.Parse(c.BaseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		errs = append(errs, errors.New("base URL: http://HOST/PATH or https://HOST/PATH is needed"))
	} else if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, errors.New("base URL: a user, query or fragment is not sent; a key belongs into its file"))
	}
	errs = append(errs, CheckKey(c.APIKey))
	if c.ContextTokens != 0 && (c.ContextTokens < MinContextTokens || c.ContextTokens > MaxContextTokens) {
		errs = append(errs, fmt.Errorf("context tokens %d: %d to %d", c.ContextTokens, MinContextTokens, MaxContextTokens))
	}
	if c.FirstToken < 0 || c.Idle < 0 || c.Total < 0 || c.Backoff < 0 {
		errs = append(errs, errors.New("timeouts: not below 0"))
	}
	if c.Retries > MaxRetries {
		errs = append(errs, fmt.Errorf("retries %d: at most %d", c.Retries, MaxRetries))
	}
	return errors.Join(errs...)
}

// CheckKey refuses a key that a header cannot carry.
func CheckKey(key string) error {
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("API key: it has spaces, line breaks or other characters that a header cannot carry")
	}
	return nil
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	orElse(&c.ContextTokens, 8192)
	orElse(&c.FirstToken, 2*time.Minute)
	orElse(&c.Idle, time.Minute)
	orElse(&c.Total, 10*time.Minute)
	orElse(&c.Retries, 3)
	orElse(&c.Backoff, 500*time.Millisecond)
	c.Retries = max(c.Retries, 0)
}

func orElse[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Model is a server of models. It implements llm.LLM.
type Model struct {
	cfg     Config
	url     string
	http    *http.Client
	met     *metrics
	dialect map[string]*dialect // by upstream name; not changed after New
	common  dialect             // of names that Upstream does not have
}

// dialect is what a model's server turned out not to take. It is learned from its refusals.
type dialect struct {
	noUsage     atomic.Bool // it refuses stream_options
	otherLength atomic.Bool // it wants the other one of max_tokens and max_completion_tokens
}

// New makes a model. It does not ask the server anything.
func New(cfg Config) (*Model, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	cfg.defaults()
	met, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("openai: metrics: %w", err)
	}
	m := &Model{
		cfg: cfg, url: strings.TrimRight(cfg.BaseURL, "/") + "/chat/completions", met: met,
		dialect: map[string]*dialect{}, http: newClient(),
	}
	for _, up := range cfg.Upstream {
		m.dialect[up] = &dialect{}
	}
	return m, nil
}

const (
	// connectTimeout bounds a dial, and a TLS handshake.
	connectTimeout = 10 * time.Second
	// maxIdle bounds the connections that are kept for the next question.
	maxIdle = 64
	// maxHeader bounds the header of a response, in bytes.
	maxHeader = 64 << 10
)

// newClient makes a client that follows no redirect, since a key must not wander, and that asks for no compression,
// since that holds tokens back. How long to wait for a response is the caller's.
func newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: connectTimeout}).DialContext, TLSHandshakeTimeout: connectTimeout,
			ForceAttemptHTTP2: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
			MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: 90 * time.Second,
		},
	}
}

// metrics count what came of requests; label values are the reasons of failures, and those below.
type metrics struct {
	requests *prometheus.CounterVec // outcome
	left     *prometheus.CounterVec // what
}

const (
	outcomeAnswered = "answered"
	outcomeStopped  = "stopped" // who asked no longer wants it
	leftMessage     = "message"
	leftMiddle      = "middle"
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_llm_requests_total", Help: "Requests to the model's server, by outcome; each try is one.",
		}, []string{"outcome"}),
		left: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_llm_context_left_out_total", Help: "Messages left out of a prompt, and questions cut in the middle, for the budget.",
		}, []string{"what"}),
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.left))
}
