// Package raced tells tests that they run under the race detector, and works around what it cannot do.
package raced

import "runtime"

// Bubbles makes tests in synctest bubbles safe under the race detector: they run on one processor. A timer of a bubble that is due when it is made
// runs at once, on the thread that made it, and all of a bubble's timers share one thread state of the detector (runtime, timer.unlockAndRun): two at once
// corrupt that state, and the process dies of SIGSEGV or of a CHECK. Seen with Go 1.26; four goroutines that call time.AfterFunc(0, ...) in a bubble show it.
// The detector reports missing synchronization by what happened before what, not by what ran in parallel, so it goes on finding races.
func Bubbles() {
	if On {
		runtime.GOMAXPROCS(1)
	}
}
