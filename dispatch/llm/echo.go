package llm

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// DefaultTokenDelay is Echo's pace.
const DefaultTokenDelay = 20 * time.Millisecond

// Echo answers with the prompt's words, one token a word. The same prompt has the same answer. Tests and demos use it.
type Echo struct {
	// TokenDelay is the time before each token. Zero means DefaultTokenDelay; below zero, none.
	TokenDelay time.Duration
}

// Answer implements LLM.
func (e Echo) Answer(ctx context.Context, job Job, emit func(string) error) (Result, error) {
	delay := e.TokenDelay
	if delay == 0 {
		delay = DefaultTokenDelay
	}
	pace := time.NewTimer(max(delay, 0))
	defer pace.Stop()
	words := strings.Fields(job.Prompt)
	for i, word := range words {
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-pace.C:
		}
		if i > 0 {
			word = " " + word
		}
		if err := emit(word); err != nil {
			return Result{}, err
		}
		pace.Reset(max(delay, 0))
	}
	return Result{Fin: "end", Usage: fmt.Appendf(nil, `{"tokens":%d}`, len(words))}, nil
}
