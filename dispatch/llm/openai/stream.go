package openai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/roamsync/roam/dispatch/llm"
)

const (
	// maxEvent bounds an event with its comments, in bytes: a longer one fails the answer.
	maxEvent = 1 << 20
	// tailTime is how long the usage may take after the finish_reason; without it the answer is complete too.
	tailTime = 2 * time.Second
)

// chunk is an event's data, as far as it is read here.
type chunk struct {
	Object  string          `json:"object"`
	Choices []choice        `json:"choices"`
	Usage   json.RawMessage `json:"usage"`
	Error   json.RawMessage `json:"error"`
}

type choice struct {
	Index        int    `json:"index"`
	Delta        delta  `json:"delta"`
	FinishReason string `json:"finish_reason"`
}

// delta is a piece of an answer. What a model thinks to itself shows that it is alive; it is not part of the answer.
type delta struct {
	Content      content         `json:"content"`
	Refusal      content         `json:"refusal"`
	Reasoning    content         `json:"reasoning"`
	Reasoning2   content         `json:"reasoning_content"`
	ToolCalls    json.RawMessage `json:"tool_calls"`
	FunctionCall json.RawMessage `json:"function_call"`
}

// stream is one response. One goroutine owns it.
type stream struct {
	emit  func(string) error
	watch *watchdog
	key   secret

	said    bool // text was emitted: there is no second try
	finish  string
	tool    bool
	refused bool
	usage   json.RawMessage
	emitErr error
}

// read reads events until the answer has ended.
func (s *stream) read(body io.Reader) error {
	for ev, err := range sse.Read(body, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			return broken(err)
		}
		data := bytes.TrimSpace([]byte(ev.Data))
		if string(data) == "[DONE]" {
			break
		}
		if len(data) == 0 {
			continue
		}
		if err := s.take(ev.Type, data); err != nil {
			return err
		}
	}
	return nil
}

// take takes an event's data.
func (s *stream) take(event string, data []byte) error {
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return &failure{reason: reasonBroken, text: "the model's server sent an event that is no chunk of an answer", detail: err.Error()}
	}
	if present(c.Error) || event == "error" || c.Object == "error" {
		return inStream(data, s.key)
	}
	if present(c.Usage) {
		s.usage = bytes.Clone(c.Usage)
	}
	for i := range c.Choices {
		if c.Choices[i].Index != 0 {
			continue // one answer was asked for
		}
		if err := s.choice(&c.Choices[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) choice(c *choice) error {
	d := &c.Delta
	tool := listed(d.ToolCalls) || present(d.FunctionCall)
	s.tool = s.tool || tool
	s.refused = s.refused || d.Refusal != ""
	if text := string(d.Content + d.Refusal); text != "" && s.finish == "" {
		s.said = true
		if s.emitErr = s.emit(text); s.emitErr != nil {
			return s.emitErr
		}
	}
	if c.FinishReason != "" && s.finish == "" {
		s.finish = c.FinishReason
		s.watch.expect(tailTime, errTail)
	} else if s.finish == "" && (tool || d.Content+d.Refusal+d.Reasoning+d.Reasoning2 != "") {
		s.watch.expect(s.watch.idle, errIdle)
	}
	return nil
}

// judge is how a response ended, from what it brought and what ended it.
func (s *stream) judge(caller, watched context.Context, err error) error {
	cause := context.Cause(watched)
	switch {
	case errors.Is(s.emitErr, llm.ErrFull):
		s.finish = "length"
		return nil
	case s.emitErr != nil:
		return s.emitErr
	case s.finish == "error" || s.finish == "abort":
		return &failure{reason: reasonUpstream, text: "the model's server gave the answer up: see its log", detail: "finish_reason " + s.finish}
	case s.finish != "":
		return nil // nothing after it can change the answer
	case err == nil:
		return &failure{reason: reasonBroken, again: true, text: "the model's server ended the answer without a finish_reason: it, or a proxy before it, was cut off"}
	case cause == nil:
		return err
	case errors.Is(cause, errTotal) && s.said:
		s.finish = "length"
		return nil
	case errors.Is(cause, errTotal), errors.Is(cause, errFirstToken), errors.Is(cause, errIdle):
		return late(cause)
	default:
		return caller.Err() // who asked has gone
	}
}

// fins are the protocol's words for what servers say; what is not here is "end".
var fins = map[string]string{
	"length": "length", "max_tokens": "length", "content_filter": "filter", "tool_calls": "tool", "function_call": "tool",
}

func (s *stream) result() llm.Result {
	fin, ok := fins[s.finish]
	switch {
	case ok:
	case s.tool:
		fin = "tool"
	case s.refused:
		fin = "filter"
	default:
		fin = "end"
	}
	return llm.Result{Fin: fin, Usage: s.usage}
}

// present reports whether a field is there and not null; some servers write every field in every chunk.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func listed(raw json.RawMessage) bool { return present(raw) && string(raw) != "[]" }

// broken is the failure of a response that could not be read to its end.
func broken(err error) *failure {
	if errors.Is(err, bufio.ErrTooLong) {
		return &failure{reason: reasonBroken, text: "the model's server sent an event of more than 1 MiB: is --base-url that of a chat completions server?"}
	}
	return &failure{reason: reasonBroken, again: true, text: "the connection to the model's server broke in the middle of the answer", detail: err.Error()}
}
