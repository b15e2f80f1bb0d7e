package replication

import (
	"errors"
	"io"
	"testing"
)

type several []error

func (s several) Error() string          { return "2 errors occurred:\n\t* one\n\t* another\n\n" }
func (s several) WrappedErrors() []error { return s }

// TestASeedsErrorsAreALine: what a log shows of a seed can be read.
func TestASeedsErrorsAreALine(t *testing.T) {
	if got := inALine(several{errors.New("one"), errors.New("another")}); got != "one; another" {
		t.Errorf("%q", got)
	}
	if got := inALine(io.EOF); got != "EOF" {
		t.Errorf("%q", got)
	}
}
