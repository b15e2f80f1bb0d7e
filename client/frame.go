package client

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// subprotocol is the version and encoding spoken: one JSON object a line, one or more lines a message.
const subprotocol = "roam.v1.json"

// Frames to the server. Fields without omitempty are always present.
type (
	helloFrame struct {
		T      string     `json:"t"`
		ID     int64      `json:"id"`
		Token  string     `json:"token"`
		Device string     `json:"device"`
		Agent  string     `json:"agent,omitempty"`
		Open   []openItem `json:"open,omitempty"`
	}
	openItem struct {
		S    string `json:"s"`
		Cur  string `json:"cur,omitempty"`
		Tail int    `json:"tail,omitempty"`
	}
	openFrame struct {
		T  string `json:"t"`
		ID int64  `json:"id"`
		openItem
	}
	closeFrame struct {
		T  string `json:"t"`
		ID int64  `json:"id"`
		S  string `json:"s"`
	}
	putFrame struct {
		T   string            `json:"t"`
		ID  int64             `json:"id"`
		S   string            `json:"s"`
		Cur string            `json:"cur,omitempty"`
		Ops []json.RawMessage `json:"ops"`
	}
	pageFrame struct {
		T      string `json:"t"`
		ID     int64  `json:"id"`
		S      string `json:"s"`
		Before uint64 `json:"before"`
		Limit  int    `json:"limit"`
	}
	authFrame struct {
		T     string `json:"t"`
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	pongFrame struct {
		T string `json:"t"`
	}
)

// op is what a put carries: the fields of all kinds, as the protocol names them.
type op struct {
	K     string          `json:"k"`
	OID   string          `json:"oid"`
	Text  *string         `json:"text,omitempty"`
	Parts json.RawMessage `json:"parts,omitempty"`
	Role  string          `json:"role,omitempty"`
	Run   json.RawMessage `json:"run,omitempty"` // of a msg: what it asks; of a stop: the answer to end
	Of    string          `json:"of,omitempty"`
	Model string          `json:"model,omitempty"`
	Busy  string          `json:"busy,omitempty"`
	Key   string          `json:"key,omitempty"`
	V     json.RawMessage `json:"v,omitempty"`
	On    *bool           `json:"on,omitempty"`
	Seq   *uint64         `json:"seq,omitempty"`
}

// onMap reports whether the op has an hlc when it is stored.
func (o *op) onMap() bool { return o.K == "set" || o.K == "edit" || o.K == "del" || o.K == "react" }

type askJSON struct {
	Models []string `json:"models,omitempty"`
	Busy   string   `json:"busy,omitempty"`
}

// frame is what the server sends: the fields of all types.
type frame struct {
	T      string `json:"t"`
	ID     int64  `json:"id"`
	S      string `json:"s"`
	Cur    string `json:"cur"`
	Behind *bool  `json:"behind"`

	User    string          `json:"user"`
	Region  string          `json:"region"`
	Conn    string          `json:"conn"`
	Exp     int64           `json:"exp"`
	Max     limits          `json:"max"`
	Regions json.RawMessage `json:"regions"` // of welcome: a list; of ok: a number

	Map  map[string]item   `json:"map"`
	Read map[string]uint64 `json:"read"`
	Log  []item            `json:"log"`
	More bool              `json:"more"`
	Why  string            `json:"why"`
	Ops  []item            `json:"ops"`

	Run string `json:"run"`
	EP  string `json:"ep"`
	Off uint64 `json:"off"`
	D   string `json:"d"`

	At   []placed `json:"at"`
	Safe bool     `json:"safe"`
	OIDs []string `json:"oids"`

	Code  string `json:"code"`
	Msg   string `json:"msg"`
	Retry *int64 `json:"retry"`

	To    []moveTarget `json:"to"`
	After int64        `json:"after"`
}

type limits struct {
	Frame int     `json:"frame"`
	Ops   int     `json:"ops"`
	Rate  float64 `json:"rate"`
}

type placed struct {
	OID string `json:"oid"`
	Seq uint64 `json:"seq"`
	At  string `json:"at"`
	HLC string `json:"hlc"`
}

type moveTarget struct {
	Region string `json:"region"`
	URL    string `json:"url"`
}

// item is an entry of the log, an op on the map, or a value of a snap's map.
type item struct {
	K      string `json:"k"`
	OID    string `json:"oid"`
	Seq    uint64 `json:"seq"`
	At     string `json:"at"`
	TS     int64  `json:"ts"`
	User   string `json:"user"`
	Device string `json:"device"`
	HLC    string `json:"hlc"`

	Role    string              `json:"role"`
	Text    *string             `json:"text"`
	Parts   json.RawMessage     `json:"parts"`
	Edited  bool                `json:"edited"`
	Deleted bool                `json:"deleted"`
	React   map[string][]string `json:"react"`
	Ext     json.RawMessage     `json:"ext"`

	Of    string          `json:"of"`
	Model string          `json:"model"`
	State string          `json:"state"`
	EP    string          `json:"ep"`
	Len   *uint64         `json:"len"`
	Sum   string          `json:"sum"`
	Fin   string          `json:"fin"`
	Usage json.RawMessage `json:"usage"`
	Err   json.RawMessage `json:"err"`

	Key string          `json:"key"`
	V   json.RawMessage `json:"v"`
	On  bool            `json:"on"`
}

// decodeFrames reads a message of one or more lines. A frame that is not JSON makes the whole message an error: the
// connection that brought it cannot be trusted.
func decodeFrames(message []byte) ([]*frame, error) {
	var frames []*frame
	for line := range bytes.Lines(message) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		f := &frame{}
		if err := json.Unmarshal(line, f); err != nil {
			return nil, fmt.Errorf("frame: %w", err)
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// encodeFrames joins frames into one message. Frames are made here, so that they cannot fail to encode.
func encodeFrames(frames []any) []byte {
	var message []byte
	for _, f := range frames {
		line, err := json.Marshal(f)
		if err != nil {
			panic(fmt.Sprintf("client: encode %T: %v", f, err))
		}
		message = append(append(message, line...), '\n')
	}
	return message
}
