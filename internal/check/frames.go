package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Frame is a frame that was received: the fields of all types.
type Frame struct {
	T  string `json:"t"`
	ID int64  `json:"id"`
	S  string `json:"s"`

	Cur    string           `json:"cur"`
	Behind *bool            `json:"behind"`
	Why    string           `json:"why"`
	More   bool             `json:"more"`
	Map    map[string]Value `json:"map"`
	Read   map[string]int64 `json:"read"`
	Log    []Item           `json:"log"`
	Ops    []Item           `json:"ops"`

	Run string `json:"run"`
	Ep  string `json:"ep"`
	Off int    `json:"off"`
	D   string `json:"d"`

	At   []Place  `json:"at"`
	Safe *bool    `json:"safe"`
	OIDs []string `json:"oids"`

	Code  string `json:"code"`
	Msg   string `json:"msg"`
	Retry *int64 `json:"retry"`

	To    []struct{ Region, URL string } `json:"to"`
	After int64                          `json:"after"` // ms

	User    string                         `json:"user"`
	Max     struct{ Frame, Ops, Rate int } `json:"max"`
	Regions json.RawMessage                `json:"regions"` // welcome: a list; ok: a number

	Raw     json.RawMessage `json:"-"`
	Came    time.Time       `json:"-"` // the owner's
	Missing []string        `json:"-"` // fields that are always present, and are not
}

// Item is an entry of the log, or a map op.
type Item struct {
	K      string  `json:"k"`
	OID    string  `json:"oid"`
	Seq    int64   `json:"seq"`
	At     string  `json:"at"`
	TS     int64   `json:"ts"`
	User   string  `json:"user"`
	Device string  `json:"device"`
	Role   string  `json:"role"`
	Text   *string `json:"text"`

	Of    string `json:"of"`
	Model string `json:"model"`
	State string `json:"state"`
	Ep    string `json:"ep"`
	Len   *int   `json:"len"`
	Sum   string `json:"sum"`
	Fin   string `json:"fin"`

	Key string          `json:"key"`
	V   json.RawMessage `json:"v"`
	HLC string          `json:"hlc"`
	Ext json.RawMessage `json:"ext"`
}

// Value is a key of the session's map.
type Value struct {
	V    json.RawMessage `json:"v"`
	HLC  string          `json:"hlc"`
	User string          `json:"user"`
	OID  string          `json:"oid"`
}

// Place is what an ok says of one op.
type Place struct {
	OID string `json:"oid"`
	Seq int64  `json:"seq"`
	At  string `json:"at"`
	HLC string `json:"hlc"`
}

// present names the fields that the protocol writes without a question mark, by frame type.
var present = map[string][]string{
	"welcome": {"id", "conn", "user", "region", "node", "ping", "exp", "max", "regions"},
	"snap":    {"s", "cur", "map", "read", "log", "more", "why"},
	"delta":   {"s", "cur", "ops"},
	"tok":     {"s", "run", "ep", "off", "d"},
	"ok":      {"id", "regions", "safe"},
	"safe":    {"s", "oids"},
	"page":    {"id", "s", "log", "more"},
	"err":     {"code", "msg"},
	"sig":     {"s", "user", "device", "k", "v"},
	"move":    {"to", "after", "why"},
}

// presentIn does so for entries and map ops, by kind.
var presentIn = map[string][]string{
	"msg": {"k", "oid", "seq", "at", "ts", "user", "device", "role", "text"},
	"run": {"k", "oid", "seq", "at", "ts", "of", "model", "state", "ep"},
	"set": {"oid", "key", "v", "user", "ts", "hlc"},
}

// errorCodes are all that an err may bear.
var errorCodes = []string{"bad_frame", "unauthorized", "forbidden", "not_found", "too_large", "rate_limited",
	"conflict", "busy", "behind", "unavailable", "internal"}

// Parse splits a text message into its frames.
func Parse(message []byte) ([]*Frame, error) {
	var frames []*Frame
	dec := json.NewDecoder(bytes.NewReader(message))
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			return frames, nil
		} else if err != nil {
			return nil, fmt.Errorf("not JSON: %q: %w", message, err)
		}
		f := &Frame{Raw: raw}
		if err := json.Unmarshal(raw, f); err != nil {
			return nil, fmt.Errorf("frame %s: %w", raw, err)
		}
		f.Missing = missing(raw, f)
		frames = append(frames, f)
	}
}

// missing lists what is not there and should be.
func missing(raw json.RawMessage, f *Frame) []string {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // it was an object before
	gone := lacking(f.T, fields, present[f.T])
	for _, list := range []string{"log", "ops"} {
		var items []map[string]json.RawMessage
		_ = json.Unmarshal(fields[list], &items)
		for _, it := range items {
			kind := string(bytes.Trim(it["k"], `"`))
			gone = append(gone, lacking(f.T+" "+kind, it, presentIn[kind])...)
			if state := string(bytes.Trim(it["state"], `"`)); Closed(state) {
				gone = append(gone, lacking(state+" run", it, []string{"len", "sum", "fin"})...)
			}
		}
	}
	if f.T == "err" && !slices.Contains(errorCodes, f.Code) {
		gone = append(gone, "err has the unknown code "+f.Code)
	}
	return gone
}

func lacking(what string, have map[string]json.RawMessage, want []string) []string {
	var gone []string
	for _, field := range want {
		if v, ok := have[field]; !ok || string(v) == "null" && field != "v" {
			gone = append(gone, fmt.Sprintf("%s has no %q", what, field))
		}
	}
	return gone
}

// Closed reports whether an answer in this state is complete.
func Closed(state string) bool { return state == "done" || state == "failed" || state == "stopped" }
