// Package llm is what answers a question: a model behind an interface. It knows nothing of queues, regions or retries.
package llm

import (
	"context"
	"encoding/json"
	"errors"
)

// ErrFull is what emit returns when the answer has reached the length that its worker keeps. The model is to stop.
var ErrFull = errors.New("the answer is full")

// LLM answers questions. It is used by many goroutines at once.
type LLM interface {
	// Answer gives the answer piece by piece to emit, and returns when it is complete, when emit returns an error, or
	// soon after ctx has ended. Pieces may split a code point. An error closes the answer as failed.
	Answer(ctx context.Context, job Job, emit func(piece string) error) (Result, error)
}

// Job is a question with what was said before it.
type Job struct {
	Session  string
	Run      string
	Model    string // never empty
	Prompt   string // the question's text
	Messages []Message
	Settings map[string]json.RawMessage
}

// Message is one turn, oldest first; the last is the question.
type Message struct {
	Role  string // "user", "assistant", or another that the client gave
	Text  string
	Parts json.RawMessage
}

// Result is how an answer ended.
type Result struct {
	Fin   string          // "end", "length", "filter" or "tool"; empty means "end"
	Usage json.RawMessage // as the backend counts it; may be empty
}
