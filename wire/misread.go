package wire

import (
	"encoding/json"
	"errors"
	"reflect"
)

// misread says why a line is no frame. Who waits for an answer to it is to hear that: what says which frame it was is read all the same, if it can be.
func misread(line []byte, err error) (*ClientFrame, error) {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) || wrong.Field == "" {
		return nil, Errorf(BadFrame, "a frame is one JSON object a line: %v", err)
	}
	var raw struct {
		ID json.RawMessage `json:"id"`
		S  json.RawMessage `json:"s"`
	}
	var f ClientFrame
	if json.Unmarshal(line, &raw) == nil {
		if id := int64(0); len(raw.ID) > 0 && string(raw.ID) != "null" && json.Unmarshal(raw.ID, &id) == nil {
			f.ID = &id
		}
		if json.Unmarshal(raw.S, &f.S) != nil || CheckSession(f.S) != nil {
			f.S = ""
		}
	}
	return &f, Errorf(BadFrame, "%.100s is %s, not %.100s", wrong.Field, belongs(wrong.Type), wrong.Value)
}

// belongs is what a field of a type holds, in words.
func belongs(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Uint64:
		return "an integer from 0 on"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// deeper reports whether lists and objects in well-formed JSON are more than so many deep in one another.
func deeper(raw []byte, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > most {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}
