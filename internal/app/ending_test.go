package app

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndIsBounded: a node that is told to end does not wait for what does not end, and for less if its disk has failed; before that it waits for ever.
func TestEndIsBounded(t *testing.T) {
	why := errors.New("the end")
	over := func() <-chan struct{} {
		c := make(chan struct{})
		close(c)
		return c
	}
	for name, c := range map[string]struct {
		failed, told <-chan struct{}
		ends         time.Duration // 0: never
		whole        bool
		took         time.Duration
	}{
		"it ends by itself":             {nil, nil, time.Hour, true, time.Hour},
		"it ends when it is told":       {nil, over(), time.Second, true, time.Second},
		"it does not when it is told":   {nil, over(), 0, false, endTimeout},
		"its disk has failed":           {over(), nil, time.Second, true, time.Second},
		"its disk has failed, it hangs": {over(), nil, 0, false, leaveTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			done, begun := make(chan error, 1), time.Now()
			if c.ends > 0 {
				time.AfterFunc(c.ends, func() { done <- why })
			}
			err, whole := awaitEnd(done, c.failed, c.told)
			if whole != c.whole || whole && !errors.Is(err, why) || time.Since(begun) != c.took {
				t.Errorf("%s: %v, %v after %v", name, err, whole, time.Since(begun))
			}
		})
	}
}

// TestWhatHangsIsSaid: who reads the log sees what the node would have waited for.
func TestWhatHangsIsSaid(t *testing.T) {
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := n.hangs(); !errors.Is(err, errHangs) || !strings.Contains(log.String(), "TestWhatHangsIsSaid") {
		t.Errorf("%v: %s", err, log.String())
	}
}
