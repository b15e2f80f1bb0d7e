package wire

import (
	"encoding/json"

	"github.com/roamsync/roam/crdt"
)

// The frames that a server sends. Fields without omitempty are always there.

// Welcome answers hello.
type Welcome struct {
	T       string       `json:"t"`
	ID      int64        `json:"id"`
	Conn    string       `json:"conn"`
	User    string       `json:"user"`
	Region  string       `json:"region"`
	Node    string       `json:"node"`
	Ping    int          `json:"ping"` // seconds
	Exp     int64        `json:"exp"`  // the token's end, unix s; 0: none
	Max     Max          `json:"max"`
	Regions []RegionInfo `json:"regions"`
}

// Move asks a client to connect to one of some addresses, the first that takes it, after a time, and then to close this connection.
type Move struct {
	T     string   `json:"t"`
	To    []MoveTo `json:"to"`
	After int64    `json:"after"` // ms
	Why   string   `json:"why"`
}

// MoveTo is where a client is sent.
type MoveTo struct {
	Region string `json:"region"`
	URL    string `json:"url"`
}

// Max is what welcome tells of the limits.
type Max struct {
	Frame int `json:"frame"`
	Ops   int `json:"ops"`
	Rate  int `json:"rate"`
}

// Snap replaces what a client holds of a session.
type Snap struct {
	T      string              `json:"t"`
	ID     *int64              `json:"id,omitempty"`
	S      string              `json:"s"`
	Cur    string              `json:"cur"`
	Map    map[string]MapValue `json:"map"`
	Read   map[string]uint64   `json:"read"`
	Log    []any               `json:"log"`
	More   bool                `json:"more"`
	Why    string              `json:"why"`
	Behind *bool               `json:"behind,omitempty"`
}

// MapValue is one key of a session's map.
type MapValue struct {
	V    json.RawMessage `json:"v"`
	HLC  string          `json:"hlc"`
	User string          `json:"user"`
	OID  string          `json:"oid"` // of the op that decided: that may turn out to have a smaller stamp
}

// Delta is what a client lacks, causes first.
type Delta struct {
	T      string `json:"t"`
	ID     *int64 `json:"id,omitempty"`
	S      string `json:"s"`
	Cur    string `json:"cur"`
	Ops    []any  `json:"ops"`
	Behind *bool  `json:"behind,omitempty"`
}

// Tok is the next piece of an answer.
type Tok struct {
	T   string `json:"t"`
	S   string `json:"s"`
	Run string `json:"run"`
	Ep  string `json:"ep"`
	Off uint64 `json:"off"`
	D   string `json:"d"`
	Cur string `json:"cur,omitempty"`
}

// Ok answers put, close and auth.
type Ok struct {
	T       string `json:"t"`
	ID      int64  `json:"id"`
	S       string `json:"s,omitempty"`
	Cur     string `json:"cur,omitempty"`
	At      []At   `json:"at,omitempty"`
	Regions int    `json:"regions"`
	Safe    bool   `json:"safe"`
}

// At is where an op stands.
type At struct {
	OID string      `json:"oid"`
	Seq uint64      `json:"seq"`
	At  crdt.Origin `json:"at"`
	HLC string      `json:"hlc,omitempty"`
}

// Safe says that ops are in enough other regions.
type Safe struct {
	T    string   `json:"t"`
	S    string   `json:"s"`
	OIDs []string `json:"oids"`
}

// PageFrame answers page.
type PageFrame struct {
	T    string `json:"t"`
	ID   int64  `json:"id"`
	S    string `json:"s"`
	Log  []any  `json:"log"`
	More bool   `json:"more"`
}

// ErrFrame refuses a frame, or says why the connection is closed.
type ErrFrame struct {
	T     string `json:"t"`
	ID    *int64 `json:"id,omitempty"`
	S     string `json:"s,omitempty"`
	Code  Code   `json:"code"`
	Msg   string `json:"msg"`
	Retry int    `json:"retry,omitempty"`
}

// Sig is an ephemeral signal of another connection.
type Sig struct {
	T      string          `json:"t"`
	S      string          `json:"s"`
	User   string          `json:"user"`
	Device string          `json:"device"`
	K      string          `json:"k"`
	V      json.RawMessage `json:"v"`
}

// Ping asks for a sign of life.
type Ping struct {
	T string `json:"t"`
}

type entryHead struct {
	K   string      `json:"k"`
	OID string      `json:"oid"`
	Seq uint64      `json:"seq"`
	At  crdt.Origin `json:"at"`
	TS  int64       `json:"ts"`
}

type msgEntry struct {
	entryHead
	User    string              `json:"user"`
	Device  string              `json:"device"`
	Role    string              `json:"role"`
	Text    string              `json:"text"`
	Parts   json.RawMessage     `json:"parts,omitempty"`
	Edited  bool                `json:"edited,omitempty"`
	Deleted bool                `json:"deleted,omitempty"`
	React   map[string][]string `json:"react,omitempty"`
	Ext     json.RawMessage     `json:"ext,omitempty"`
}

type runEntry struct {
	entryHead
	Of    string          `json:"of"`
	Model string          `json:"model"`
	State string          `json:"state"`
	Ep    string          `json:"ep"`
	Text  *string         `json:"text,omitempty"`
	Len   *uint64         `json:"len,omitempty"`
	Sum   string          `json:"sum,omitempty"`
	Fin   string          `json:"fin,omitempty"`
	Usage json.RawMessage `json:"usage,omitempty"`
	Err   string          `json:"err,omitempty"`
}

// EntryFrame is an entry as log and delta carry it.
func EntryFrame(e *crdt.Entry) any {
	head := entryHead{OID: e.OID, Seq: e.Seq, At: e.At, TS: e.TS}
	if m := e.Msg; m != nil {
		head.K = "msg"
		return msgEntry{
			entryHead: head, User: e.User, Device: e.Device, Role: m.Role, Text: m.Text, Parts: m.Parts,
			Edited: m.Edited, Deleted: m.Deleted, React: m.React, Ext: m.Ext,
		}
	}
	r := e.Run
	head.K = "run"
	f := runEntry{
		entryHead: head, Of: r.Of, Model: r.Model, State: r.State.String(), Ep: r.Attempt.String(), Text: r.Text,
		Sum: r.Sum, Fin: r.Fin, Usage: r.Usage, Err: r.Err,
	}
	if r.State.Closed() {
		f.Len = &r.Len
	}
	return f
}

type mapOp struct {
	K    string          `json:"k"`
	OID  string          `json:"oid"`
	Key  string          `json:"key,omitempty"`
	V    json.RawMessage `json:"v,omitempty"`
	Of   string          `json:"of,omitempty"`
	Text *string         `json:"text,omitempty"`
	On   *bool           `json:"on,omitempty"`
	Seq  *uint64         `json:"seq,omitempty"`
	User string          `json:"user"`
	TS   int64           `json:"ts"`
	HLC  string          `json:"hlc"`
	Ext  json.RawMessage `json:"ext,omitempty"`
}

// MapFrame is a map op as it was put.
func MapFrame(m *crdt.MapOp) any {
	f := mapOp{OID: m.OID, User: m.User, TS: m.TS, HLC: m.Version.String(), Of: m.Of, Ext: m.Ext}
	switch m.Kind {
	case crdt.KindSet:
		f.K, f.Key, f.V = "set", m.Key, m.Value
		if len(f.V) == 0 {
			f.V = json.RawMessage("null")
		}
	case crdt.KindEdit:
		f.K, f.Text = "edit", &m.Text
	case crdt.KindDel:
		f.K = "del"
	case crdt.KindReact:
		f.K, f.On = "react", &m.On
		f.V, _ = json.Marshal(m.Key) // a string always encodes
	case crdt.KindRead:
		f.K, f.Seq = "read", &m.Seq
	}
	return f
}
