package app

import (
	"errors"
	"time"
)

// Check says what `roam serve` would refuse before it starts, without starting.
func (o *ServeOptions) Check() error {
	_, ring := ReadKeyRing(o.SecretFile)
	var key error
	if o.AuthHS256File != "" {
		_, key = hs256Key("--auth-hs256-file", o.AuthHS256File)
	}
	return errors.Join(o.check(), ring, key, o.checkFiles(o.machineClock()))
}

// machineClock is what the machine shows, as far as it is not shifted for a test.
func (o *ServeOptions) machineClock() func() time.Time {
	off := o.ClockOffset
	return func() time.Time { return time.Now().Add(off) }
}

// Check says what `roam worker` would refuse before it starts, without starting.
func (o *WorkerOptions) Check() error { return o.check() }
