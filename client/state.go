package client

import (
	"encoding/json"
	"time"
)

// Kinds of entries.
const (
	KindMessage = "msg"
	KindAnswer  = "run"
)

// Entry is a message or an answer. Entries of a State are shared and must not be changed.
type Entry struct {
	Kind   string // KindMessage or KindAnswer
	OID    string
	Seq    uint64 // with At, the place in the log
	At     string
	Time   time.Time
	User   string
	Device string
	Text   string // of an answer: as far as it has come

	// Of messages.
	Role    string
	Parts   json.RawMessage
	Edited  bool
	Deleted bool
	React   map[string][]string // reaction -> users
	Ext     json.RawMessage

	// Of answers.
	Of     string // the question's OID
	Model  string
	Status string // queued, running, done, failed, stopped
	EP     string // the attempt
	Fin    string
	Usage  json.RawMessage
	Err    string
	Broken bool // closed, and the text is not the one that `len` and `sum` speak of, even after asking again
}

// Closed reports whether an answer is complete.
func (e *Entry) Closed() bool { return closedState(e.Status) }

func closedState(s string) bool { return s == "done" || s == "failed" || s == "stopped" }

// Value is a key of the session's map.
type Value struct {
	JSON json.RawMessage
	User string
	HLC  string // its version
}

// Stage is how far an own op has come.
type Stage int

// The stages of an own op.
const (
	Waiting Stage = iota // in the outbox only
	Sent                 // on the wire, on this connection
	Stored               // on a majority's disk in the region it was put in
	Safe                 // in enough other regions too: it has left the outbox
	Refused              // it will never be stored
)

var stages = [...]string{"waiting", "sent", "stored", "safe", "refused"}

func (s Stage) String() string { return stages[s] }

// OwnOp is an op of this client that is not safe yet.
type OwnOp struct {
	OID   string
	Kind  string // as in the protocol: msg, run, stop, set, …
	Text  string // of a msg or edit
	Stage Stage
	Put   time.Time
}

// State is a session as this client knows it at one moment. Its slices and maps are the reader's own; what they
// point to is shared.
type State struct {
	Session string
	Log     []*Entry // by (Seq, At)
	Map     map[string]Value
	Read    map[string]uint64 // user -> seq
	Outbox  []OwnOp           // in the order they were put
	More    bool              // there are entries before the first one; see Session.Older
	Live    bool              // the region sends what happens, as it happens
	Region  string            // that sends it; empty if not Live
	Behind  bool              // the region has not all that was seen before, yet
	Why     string            // of the last snap: new, floor (older history is gone) or resync
	Err     error             // why the session cannot be opened, a *Refusal; nil again once it is
}

// Find returns an entry of the log by its oid, or nil.
func (s State) Find(oid string) *Entry {
	for _, e := range s.Log {
		if e.OID == oid {
			return e
		}
	}
	return nil
}

// Answers returns the answers to a question, in log order.
func (s State) Answers(question string) []*Entry {
	var all []*Entry
	for _, e := range s.Log {
		if e.Kind == KindAnswer && e.Of == question {
			all = append(all, e)
		}
	}
	return all
}
