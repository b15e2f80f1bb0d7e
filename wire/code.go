package wire

import (
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
)

// Code says what kind of error a client is told.
type Code string

// The error codes of roam.v1.
const (
	BadFrame     Code = "bad_frame"
	Unauthorized Code = "unauthorized"
	Forbidden    Code = "forbidden"
	NotFound     Code = "not_found"
	TooLarge     Code = "too_large"
	RateLimited  Code = "rate_limited"
	Conflict     Code = "conflict"
	Busy         Code = "busy"
	Unavailable  Code = "unavailable"
	Internal     Code = "internal"
)

// Status is a WebSocket close code of roam.v1. From StatusBadToken on a client does not come back.
type Status int

// The close codes that this version uses.
const (
	StatusGoingAway Status = 1001
	StatusTooSlow   Status = 4002
	StatusExpired   Status = 4003
	StatusSilent    Status = 4004
	StatusResync    Status = 4005
	StatusBadToken  Status = 4500
	StatusBadFrames Status = 4501
)

// Error is what goes to a client: what was wrong, in words that say what to do.
type Error struct {
	Code  Code
	Msg   string
	Retry int // ms after which the same frame may be sent again; 0: do not
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Msg }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// retryAfter is when a client may try again what the region could not do, in ms.
const retryAfter = 500

// ErrorOf words what a region answered.
func ErrorOf(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, crdt.ErrConflict):
		return Errorf(Conflict, "%v: an oid names one op; give a new op a new one", err)
	case errors.Is(err, crdt.ErrNotFound):
		return Errorf(NotFound, "%v", err)
	case errors.Is(err, crdt.ErrBusy):
		return Errorf(Busy, "%v: stop it, or ask with busy queue or interrupt", err)
	case errors.Is(err, crdt.ErrLimit):
		return Errorf(TooLarge, "%v: begin a new one", err)
	case errors.Is(err, ErrUnavailable):
		return &Error{Code: Unavailable, Msg: err.Error(), Retry: retryAfter}
	}
	return Errorf(Internal, "%v", err)
}
