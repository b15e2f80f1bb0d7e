package app

import "errors"

// Check says what `roam serve` would refuse before it starts, without starting.
func (o *ServeOptions) Check() error {
	_, ring := ReadKeyRing(o.SecretFile)
	var key error
	if o.AuthHS256File != "" {
		_, key = hs256Key("--auth-hs256-file", o.AuthHS256File)
	}
	return errors.Join(o.check(), ring, key)
}

// Check says what `roam worker` would refuse before it starts, without starting.
func (o *WorkerOptions) Check() error { return o.check() }
