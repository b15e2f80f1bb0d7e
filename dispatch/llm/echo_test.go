package llm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/roamsync/roam/dispatch/llm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEchoSaysTheWords(t *testing.T) {
	for _, prompt := range []string{"", " \t\n", "one", "  the quick\tbrown\n fox ü — 你好  "} {
		synctest.Test(t, func(t *testing.T) {
			var tokens []string
			start := time.Now()
			res, err := llm.Echo{}.Answer(t.Context(), llm.Job{Prompt: prompt}, func(s string) error {
				tokens = append(tokens, s)
				return nil
			})
			words := strings.Fields(prompt)
			if got := strings.Join(tokens, ""); got != strings.Join(words, " ") || len(tokens) != len(words) || err != nil || res.Fin != "end" {
				t.Errorf("%q: %q, %+v, %v", prompt, tokens, res, err)
			}
			if took := time.Since(start); took != time.Duration(len(words))*llm.DefaultTokenDelay {
				t.Errorf("%q took %v", prompt, took)
			}
		})
	}
}

func TestEchoEndsWithItsContextAndItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := llm.Echo{TokenDelay: time.Hour}.Answer(ctx, llm.Job{Prompt: "a b c"}, func(string) error {
			n++
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || n != 1 {
			t.Errorf("%d tokens, %v", n, err)
		}
		_, err = llm.Echo{TokenDelay: -1}.Answer(t.Context(), llm.Job{Prompt: "a b c"}, func(string) error { return llm.ErrFull })
		if !errors.Is(err, llm.ErrFull) {
			t.Errorf("%v", err)
		}
	})
}
