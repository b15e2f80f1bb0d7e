package gateway

import (
	"sync"
	"time"
)

// silenceLooks is how many times in a row nothing may have been heard. A stop of this process, or of its machine, costs one look: what has come meanwhile is taken
// before the next.
const silenceLooks = 10

// silence calls over once nothing was heard for a time in which this process itself was running.
type silence struct {
	every time.Duration
	over  func()

	mu    sync.Mutex
	timer *time.Timer
	looks int // since something was heard
	ended bool
}

func newSilence(limit time.Duration, over func()) *silence {
	s := &silence{every: limit / silenceLooks, over: over}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.every, s.look)
	return s
}

func (s *silence) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.looks++; {
	case s.ended:
	case s.looks <= silenceLooks: // the first may have come just after something was heard
		s.timer.Reset(s.every)
	default:
		s.ended = true
		s.over()
	}
}

// heard begins anew.
func (s *silence) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = 0
}

// stop ends it; over is not called after it returns.
func (s *silence) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.timer.Stop()
}
