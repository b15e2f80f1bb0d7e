package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/roamsync/roam/dispatch/llm"
)

// request is the body of a question. Temperature 0 and no temperature differ, so what may be missing is a pointer.
type request struct {
	Model               string         `json:"model"`
	Messages            []message      `json:"messages"`
	Stream              bool           `json:"stream"`
	StreamOptions       *streamOptions `json:"stream_options,omitempty"`
	Temperature         *float64       `json:"temperature,omitempty"`
	MaxTokens           *int           `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int           `json:"max_completion_tokens,omitempty"`

	swapped bool // the two above were exchanged after a refusal
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// settings are those of a session's settings that a model is asked with.
type settings struct {
	system      string
	temperature *float64
	maxTokens   *int
}

// Bounds of settings: beyond them a server would refuse, in words that are less clear.
const (
	maxTemperature = 2
	maxMaxTokens   = 1 << 20
)

// readSettings refuses what it cannot use: an answer that silently is not as the user set it would be worse than none.
func readSettings(all map[string]json.RawMessage) (s settings, err error) {
	if err := read(all, "system", &s.system, "a text"); err != nil {
		return s, err
	}
	if err := read(all, "temperature", &s.temperature, "a number from 0 to 2"); err != nil {
		return s, err
	}
	if err := read(all, "max_tokens", &s.maxTokens, "a whole number from 1 on"); err != nil {
		return s, err
	}
	if t := s.temperature; t != nil && (*t < 0 || *t > maxTemperature) {
		return s, wrongSetting("temperature", "a number from 0 to 2")
	}
	if n := s.maxTokens; n != nil && (*n < 1 || *n > maxMaxTokens) {
		return s, wrongSetting("max_tokens", fmt.Sprintf("a whole number from 1 to %d", maxMaxTokens))
	}
	return s, nil
}

// read reads a setting; one that is missing or null is not set.
func read(all map[string]json.RawMessage, key string, into any, want string) error {
	if raw, ok := all[key]; ok && json.Unmarshal(raw, into) != nil {
		return wrongSetting(key, want)
	}
	return nil
}

func wrongSetting(key, want string) error {
	return fmt.Errorf("the session's setting %q is not %s: change it and ask again", key, want)
}

// request makes the body of a job's question.
func (m *Model) request(job llm.Job) (*request, error) {
	s, err := readSettings(job.Settings)
	if err != nil {
		return nil, err
	}
	messages, err := m.prompt(s.system, job)
	if err != nil {
		return nil, err
	}
	r := &request{Model: job.Model, Messages: messages, Stream: true, Temperature: s.temperature, MaxTokens: s.maxTokens}
	if up, ok := m.cfg.Upstream[job.Model]; ok {
		r.Model = up
	}
	d := m.dialectOf(r.Model)
	if !d.noUsage.Load() {
		r.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	if m.newLength() != d.otherLength.Load() {
		r.swapLength()
	}
	return r, nil
}

// newLength reports whether the server is known to want max_completion_tokens; the others mostly know max_tokens only.
func (m *Model) newLength() bool {
	u, err := url.Parse(m.cfg.BaseURL)
	return err == nil && u.Hostname() == "api.openai.com"
}

func (r *request) swapLength() {
	r.MaxTokens, r.MaxCompletionTokens = r.MaxCompletionTokens, r.MaxTokens
}

func (m *Model) dialectOf(upstream string) *dialect {
	if d, ok := m.dialect[upstream]; ok {
		return d
	}
	return &m.common
}

// post sends a request.
func (m *Model) post(ctx context.Context, r *request) (*http.Response, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("User-Agent", "roam")
	if m.cfg.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+m.cfg.APIKey)
	}
	return m.http.Do(req)
}
