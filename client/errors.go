package client

import (
	"errors"
	"fmt"
)

// Errors that a caller may branch on.
var (
	// ErrOutboxFull: too many ops wait to be safe; put again when some are.
	ErrOutboxFull = errors.New("the outbox is full")
	// ErrExpired: the op was not safe in the time after it was put for which it may be put again (Config.MaxAge, 29 days). Regions may
	// have forgotten its oid, so that putting it again could double it. If it was never stored, put it as a new one.
	ErrExpired = errors.New("the op was not delivered for too long, and is not put again: regions may have forgotten its oid")
	// ErrTooLarge: the op is larger than any region takes.
	ErrTooLarge = errors.New("the op is too large")
	// ErrSession: the id is not owner/name.
	ErrSession = errors.New("not a session id: owner/name, each 1 to 64 of A-Z a-z 0-9 . _ ~ -")
	// ErrTooMany: the client holds as many sessions as it may.
	ErrTooMany = errors.New("too many sessions")
	// ErrClosed: the session's handle was closed.
	ErrClosed = errors.New("the session is closed")
	// ErrRunning: Run was called before.
	ErrRunning = errors.New("the client runs or has run")
	// ErrUnknownRegion: no region of this name is in the list.
	ErrUnknownRegion = errors.New("unknown region")
)

// Refusal is a server's `err`: what it will not do, and why. Codes are those of the protocol.
type Refusal struct {
	Code string
	Msg  string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Code, r.Msg) }

// Why a connection ends.
var (
	errSilent  = errors.New("no frame for too long")
	errNoReply = errors.New("a put was not answered in time")
	errNoHello = errors.New("no welcome in time")
	errCut     = errors.New("cut")
	errMoved   = errors.New("moved")
)
