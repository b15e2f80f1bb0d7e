package worker

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/roamsync/roam/dispatch/llm"
)

// TestOutputIsWhatWasSaid: however the model cuts its bytes, the pieces are whole code points and join to the text.
func TestOutputIsWhatWasSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		said := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "valid") {
			said = []byte(rapid.String().Draw(t, "text"))
		}
		o := newOutput(1 << 20)
		var sent strings.Builder
		take := func() {
			for {
				text, _ := o.piece(uint64(sent.Len()), uint64(rapid.IntRange(4, 9).Draw(t, "size")))
				if text == "" {
					return
				}
				if !utf8.ValidString(text) {
					t.Fatalf("piece %q", text)
				}
				sent.WriteString(text)
			}
		}
		for rest := said; len(rest) > 0; {
			n := rapid.IntRange(1, min(5, len(rest))).Draw(t, "n")
			if err := o.emit(string(rest[:n])); err != nil {
				t.Fatal(err)
			}
			if rest = rest[n:]; rapid.Bool().Draw(t, "take") {
				take()
			}
		}
		o.finish(llm.Result{}, nil)
		take()
		want := strings.Join(strings.Split(string([]rune(string(said))), ""), "") // []rune makes each bad byte U+FFFD
		if _, last := o.piece(uint64(sent.Len()), 4); sent.String() != want || !last {
			t.Fatalf("sent %q, want %q, last %v", sent.String(), want, last)
		}
	})
}

func TestOutputIsBounded(t *testing.T) {
	o := newOutput(5)
	if err := o.emit("abü"); err != nil {
		t.Fatal(err)
	}
	if err := o.emit("€x"); !errors.Is(err, llm.ErrFull) { // € would make it 7
		t.Errorf("emit: %v", err)
	}
	if err := o.emit("y"); !errors.Is(err, llm.ErrFull) {
		t.Errorf("emit after that: %v", err)
	}
	o.finish(llm.Result{}, llm.ErrFull)
	if text, last := o.piece(0, 100); text != "abü" || !last {
		t.Errorf("%q, %v", text, last)
	}
	if _, full, _ := o.outcome(); !full {
		t.Error("not full")
	}
}
