package region

import (
	"sync"
	"time"
)

// stallTimer calls late once something has taken longer than a limit, in time that the process itself was running: while the process is
// stopped, or its machine is asleep, no disk can be said to hang. It looks stallLooks times.
type stallTimer struct {
	every time.Duration
	late  func()

	mu    sync.Mutex
	timer *time.Timer
	looks int
	ended bool
}

// stallLooks is how many times in a row the process has to find the same thing not done. A stop of the process costs one look.
const stallLooks = 20

func newStallTimer(limit time.Duration, late func()) *stallTimer {
	s := &stallTimer{every: limit / stallLooks, late: late}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.every, s.look)
	return s
}

func (s *stallTimer) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.looks++; {
	case s.ended:
	case s.looks < stallLooks:
		s.timer.Reset(s.every)
	default:
		s.ended = true
		s.late()
	}
}

// stop ends the watch; late is not called after it returns.
func (s *stallTimer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.timer.Stop()
}
