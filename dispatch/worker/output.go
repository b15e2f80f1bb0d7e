package worker

import (
	"sync"
	"unicode/utf8"

	"github.com/roamsync/roam/dispatch/llm"
)

// output is what a model has said so far: valid UTF-8, whole code points, bounded. It is kept whole, so that it can be
// sent again from anywhere.
type output struct {
	limit   int
	changed chan struct{} // holds one token after a change

	mu       sync.Mutex // guards what follows
	text     []byte
	rest     []byte // the start of a code point whose end has not come
	full     bool
	finished bool
	result   llm.Result
	err      error
}

func newOutput(limit int) *output { return &output{limit: limit, changed: make(chan struct{}, 1)} }

// emit adds a piece. It returns llm.ErrFull once the limit is reached.
func (o *output) emit(piece string) error {
	o.mu.Lock()
	o.add(piece, false)
	full := o.full
	o.mu.Unlock()
	o.poke()
	if full {
		return llm.ErrFull
	}
	return nil
}

// add takes whole code points; at the end, what is left of one becomes U+FFFD, as do bytes that are none.
func (o *output) add(piece string, end bool) {
	in := append(o.rest, piece...)
	for len(in) > 0 && !o.full && (end || utf8.FullRune(in)) {
		r, size := utf8.DecodeRune(in)
		if len(o.text)+utf8.RuneLen(r) > o.limit {
			o.full = true
			break
		}
		o.text, in = utf8.AppendRune(o.text, r), in[size:]
	}
	if o.full {
		in = nil
	}
	o.rest = append([]byte(nil), in...)
}

// finish notes how the model ended.
func (o *output) finish(res llm.Result, err error) {
	o.mu.Lock()
	o.add("", true)
	o.finished, o.result, o.err = true, res, err
	o.mu.Unlock()
	o.poke()
}

func (o *output) poke() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// piece returns up to size bytes from off on, in whole code points, and whether the answer ends with them.
func (o *output) piece(off, size uint64) (text string, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	have := uint64(len(o.text))
	if off > have {
		return "", false
	}
	end := min(off+size, have)
	for end < have && end > off && !utf8.RuneStart(o.text[end]) {
		end--
	}
	return string(o.text[off:end]), o.finished && end == have
}

// outcome is how the answer ended; valid when it has.
func (o *output) outcome() (res llm.Result, full bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.result, o.full, o.err
}

func (o *output) len() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return uint64(len(o.text))
}
