package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/roamsync/roam/crdt"
)

// Limits of roam.v1, told in welcome where a client can act on them.
const (
	MaxFrame   = 256 << 10 // bytes of a frame
	MaxOps     = 64        // ops of a put
	MaxModels  = 16        // models of a question
	MaxName    = 64        // characters of an oid, a model, each part of a session id
	MaxKey     = 128       // bytes of a map key or a reaction
	MaxValue   = 64 << 10  // bytes of a map value
	MaxDepth   = 100       // of lists and objects in one another, in a value, parts or ext
	MaxOpen    = 256       // sessions open on a connection
	MaxRate    = 200       // frames a second
	MaxTail    = 500       // entries of a snap or page
	DefTail    = 50
	maxTokenIn = 8 << 10 // bytes of a client's token

	// MaxCur bounds a resume token, in characters: a hello with the 32 that the SDK puts into it fits a frame.
	MaxCur = 7680
	// MaxLine bounds what is read of a frame: it may be longer by the token in it, which is not its client's doing.
	MaxLine = MaxFrame + MaxCur
)

// ClientFrame is any frame that a client sends. T says which fields count:
//
//	t      fields                          answer
//	hello  id, token, device, agent, open  welcome, then per session snap or delta
//	open   id, s, cur, tail                snap or delta
//	close  id, s                           ok
//	put    id, s, ops, cur, regions, ext   ok
//	page   id, s, before, limit            page
//	sig    s, k, v                         none
//	auth   id, token                       ok
//	pong                                   none
type ClientFrame struct {
	T       string          `json:"t"`
	ID      *int64          `json:"id"`
	S       string          `json:"s"`
	Token   string          `json:"token"`
	Device  string          `json:"device"`
	Agent   string          `json:"agent"`
	Open    []OpenRequest   `json:"open"`
	Cur     string          `json:"cur"`
	Tail    *int            `json:"tail"`
	Ops     []ClientOp      `json:"ops"`
	Regions int             `json:"regions"`
	Before  uint64          `json:"before"`
	Limit   *int            `json:"limit"`
	K       string          `json:"k"`
	V       json.RawMessage `json:"v"`
	Ext     json.RawMessage `json:"ext"` // of put: traceparent
}

// OpenRequest is a session that hello opens.
type OpenRequest struct {
	S    string `json:"s"`
	Cur  string `json:"cur"`
	Tail *int   `json:"tail"`
}

// ClientOp is an op of a put.
type ClientOp struct {
	K     string          `json:"k"`
	OID   string          `json:"oid"`
	Text  *string         `json:"text"`
	Parts json.RawMessage `json:"parts"`
	Role  string          `json:"role"`
	Run   json.RawMessage `json:"run"` // of msg: an object; of stop: a run's id
	Of    string          `json:"of"`
	Model string          `json:"model"`
	Busy  string          `json:"busy"`
	Key   *string         `json:"key"`
	V     json.RawMessage `json:"v"`
	On    *bool           `json:"on"`
	Seq   *uint64         `json:"seq"`
	Ext   json.RawMessage `json:"ext"`
}

// DecodeFrame reads one line. Unknown fields are skipped. A frame that comes with an error says at most which one it was.
func DecodeFrame(line []byte) (*ClientFrame, error) {
	var f ClientFrame
	if !utf8.Valid(line) {
		return nil, Errorf(BadFrame, "a frame is UTF-8: what is not would end the connections of those that it is sent to")
	}
	if err := json.Unmarshal(line, &f); err != nil {
		return misread(line, err)
	}
	if f.T == "" {
		return nil, Errorf(BadFrame, "a frame needs t, its type")
	}
	if needsID(f.T) && f.ID == nil {
		return nil, Errorf(BadFrame, "%s needs id, an integer", f.T)
	}
	return &f, nil
}

func needsID(t string) bool {
	switch t {
	case "hello", "open", "close", "put", "page", "auth":
		return true
	}
	return false
}

// CheckSession checks a session's id.
func CheckSession(s string) error {
	owner, name, ok := strings.Cut(s, "/")
	if !ok || !validName(owner, "") || !validName(name, "") {
		return Errorf(BadFrame, "s %.150q is not owner/name, each 1 to %d of A-Z a-z 0-9 . _ ~ -", s, MaxName)
	}
	return nil
}

// ValidUser reports whether a token's user can own sessions.
func ValidUser(s string) bool { return validName(s, "") }

func validName(s, more string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._~-"+more, rune(c)) {
			return false
		}
	}
	return true
}

func validOID(s string) bool { return validName(s, ":") }

// plain reports whether a name of at most n bytes has no control characters.
func plain(s string, n int) bool {
	return len(s) <= n && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) < 0
}

// Put checks a put frame and returns its ops, by user on device. service may speak in other roles than "user".
func (f *ClientFrame) Put(user, device string, service bool) ([]*crdt.Op, error) {
	if err := CheckSession(f.S); err != nil {
		return nil, err
	}
	if len(f.Ops) == 0 {
		return nil, Errorf(BadFrame, "put needs ops, at least one")
	}
	if len(f.Ops) > MaxOps {
		return nil, Errorf(TooLarge, "put has %d ops, at most %d go into one", len(f.Ops), MaxOps)
	}
	seen := map[string]bool{}
	ops := make([]*crdt.Op, len(f.Ops))
	for i := range f.Ops {
		o := &f.Ops[i]
		if !validOID(o.OID) {
			return nil, Errorf(BadFrame, "ops[%d]: oid %.100q is not 1 to %d of A-Z a-z 0-9 . _ ~ : -", i, o.OID, MaxName)
		}
		if seen[o.OID] {
			return nil, Errorf(BadFrame, "ops[%d]: oid %q comes twice in this put", i, o.OID)
		}
		seen[o.OID] = true
		op, err := o.op(service)
		if err != nil {
			e := *ErrorOf(err)
			e.Msg = "op " + o.OID + ": " + e.Msg
			return nil, &e
		}
		op.Session, op.OID, op.User, op.Device = f.S, o.OID, user, device
		ops[i] = op
	}
	return ops, nil
}

// op checks one op and gives it the form that sessions keep.
func (o *ClientOp) op(service bool) (*crdt.Op, error) {
	op := &crdt.Op{}
	ext, err := compact(o.Ext, MaxValue, "ext")
	if err != nil {
		return nil, err
	}
	op.Ext = ext
	switch o.K {
	case "msg":
		return op, o.msg(op, service)
	case "run":
		op.Kind, op.Of, op.Model = crdt.KindRun, o.Of, o.Model
		return op, errors.Join(o.target(), checkModel(o.Model), setBusy(op, o.Busy))
	case "stop":
		op.Kind = crdt.KindStop
		if len(o.Run) > 0 && (json.Unmarshal(o.Run, &op.Run) != nil || op.Run != "" && !validOID(op.Run)) {
			return nil, Errorf(BadFrame, "run is not the id of an answer")
		}
		return op, nil
	case "set":
		return op, o.set(op)
	case "edit":
		op.Kind, op.Of = crdt.KindEdit, o.Of
		if o.Text == nil {
			return nil, Errorf(BadFrame, "edit needs text")
		}
		op.Text = *o.Text
		return op, o.target()
	case "del":
		op.Kind, op.Of = crdt.KindDel, o.Of
		return op, o.target()
	case "react":
		return op, o.react(op)
	case "forget":
		op.Kind = crdt.KindForget
		return op, nil
	case "read":
		op.Kind = crdt.KindRead
		if o.Seq == nil || *o.Seq > crdt.MaxSeq {
			return nil, Errorf(BadFrame, "read needs seq, at most 2^53")
		}
		op.ReadSeq = *o.Seq
		return op, nil
	}
	return nil, Errorf(BadFrame, "op kind k %.32q is not served here; known are msg, run, stop, set, edit, del, react, read, forget", o.K)
}

func (o *ClientOp) target() error {
	if !validOID(o.Of) {
		return Errorf(BadFrame, "%s needs of, the oid of a message", o.K)
	}
	return nil
}

func checkModel(m string) error {
	if m != "" && !validName(m, ":/") {
		return Errorf(BadFrame, "model %.100q is not 1 to %d of A-Z a-z 0-9 . _ ~ : / -", m, MaxName)
	}
	return nil
}

func setBusy(op *crdt.Op, busy string) error {
	switch busy {
	case "", "queue":
		op.Busy = crdt.BusyQueue
	case "interrupt":
		op.Busy = crdt.BusyInterrupt
	case "reject":
		op.Busy = crdt.BusyReject
	default:
		return Errorf(BadFrame, "busy %.32q is not queue, interrupt or reject", busy)
	}
	return nil
}

func (o *ClientOp) msg(op *crdt.Op, service bool) (err error) {
	op.Kind, op.Role = crdt.KindMsg, o.Role
	if op.Role == "" {
		op.Role = "user"
	}
	if op.Role != "user" && !service {
		return Errorf(Forbidden, "role %.32q needs a service token", o.Role)
	}
	if !plain(op.Role, MaxName) {
		return Errorf(BadFrame, "role has control characters, or is longer than %d bytes", MaxName)
	}
	if o.Text == nil && len(o.Parts) == 0 {
		return Errorf(BadFrame, "msg needs text or parts")
	}
	if o.Text != nil {
		op.Text = *o.Text
	}
	if op.Parts, err = compact(o.Parts, MaxFrame, "parts"); err != nil {
		return err
	}
	if len(op.Parts) > 0 && op.Parts[0] != '[' {
		return Errorf(BadFrame, "parts is not a list")
	}
	return o.question(op)
}

// question reads msg's run: the models that are asked, the region's default if none is named.
func (o *ClientOp) question(op *crdt.Op) error {
	if len(o.Run) == 0 || string(o.Run) == "null" {
		return nil
	}
	var run struct {
		Models []string `json:"models"`
		Busy   string   `json:"busy"`
	}
	if err := json.Unmarshal(o.Run, &run); err != nil {
		return Errorf(BadFrame, "run of a msg is an object with models and busy: %v", err)
	}
	if len(run.Models) > MaxModels {
		return Errorf(TooLarge, "%d models asked, at most %d", len(run.Models), MaxModels)
	}
	for _, m := range run.Models {
		if err := checkModel(m); err != nil {
			return err
		}
	}
	op.Models = run.Models
	if len(op.Models) == 0 {
		op.Models = []string{""}
	}
	return setBusy(op, run.Busy)
}

func (o *ClientOp) set(op *crdt.Op) (err error) {
	op.Kind = crdt.KindSet
	if o.Key == nil || *o.Key == "" || !plain(*o.Key, MaxKey) {
		return Errorf(BadFrame, "set needs key, 1 to %d bytes without control characters", MaxKey)
	}
	op.Key = *o.Key
	if len(o.V) == 0 {
		return Errorf(BadFrame, "set needs v; null deletes the key")
	}
	if op.Value, err = compact(o.V, MaxValue, "v"); string(op.Value) == "null" {
		op.Value = nil
	}
	return err
}

func (o *ClientOp) react(op *crdt.Op) error {
	op.Kind, op.Of = crdt.KindReact, o.Of
	if json.Unmarshal(o.V, &op.Key) != nil || op.Key == "" || !plain(op.Key, MaxKey) {
		return Errorf(BadFrame, "react needs v, a text of 1 to %d bytes without control characters", MaxKey)
	}
	if o.On == nil {
		return Errorf(BadFrame, "react needs on, true or false")
	}
	op.On = *o.On
	return o.target()
}

// compact bounds raw JSON and gives equal values of different spacing equal bytes.
func compact(raw json.RawMessage, limit int, name string) (json.RawMessage, error) {
	if len(raw) == 0 || (string(raw) == "null" && name != "v") {
		return nil, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, Errorf(BadFrame, "%s: %v", name, err)
	}
	if b.Len() > limit {
		return nil, Errorf(TooLarge, "%s has %d bytes, at most %d", name, b.Len(), limit)
	}
	if deeper(b.Bytes(), MaxDepth) {
		return nil, Errorf(TooLarge, "%s has lists and objects in one another more than %d deep, which other clients may not be able to read", name, MaxDepth)
	}
	return b.Bytes(), nil
}
