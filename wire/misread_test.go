package wire

import (
	"fmt"
	"strings"
	"testing"
)

// TestMisreadFramesAreAnswered: who sends a field of a wrong type hears which frame that was, by its id, and what belongs there.
func TestMisreadFramesAreAnswered(t *testing.T) {
	for _, c := range []struct{ line, says, s string }{
		{`{"t":"put","id":6,"s":"a/b","ops":[{"k":"msg","oid":"m","text":5}]}`, "ops.text is a string, not number", "a/b"},
		{`{"t":"put","id":6,"s":"a/b","ops":[{"k":"read","oid":"m","seq":-1}]}`, "ops.seq is an integer from 0 on, not number -1", "a/b"},
		{`{"t":"put","s":"a/b","ops":{},"id":6}`, "ops is a list, not object", "a/b"},
		{`{"t":"put","id":6,"s":"a/b","ops":[1]}`, "ops is an object, not number", "a/b"},
		{`{"t":"put","id":6,"s":"a/b","regions":1e3}`, "regions is an integer, not number 1e3", "a/b"},
		{`{"t":"put","id":6,"s":5,"ops":[]}`, "s is a string, not number", ""},
		{`{"t":"open","id":6,"s":"no name","cur":5}`, "cur is a string, not number", ""},
	} {
		f, err := DecodeFrame([]byte(c.line))
		if err == nil || f == nil || f.ID == nil || *f.ID != 6 || f.S != c.s || ErrorOf(err).Code != BadFrame || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v", c.line, f, err)
		}
	}
	for _, line := range []string{`{"t":"put","id":"x","s":5}`, `{"t":"put","id":1.5}`, `{"t":"put","id":99999999999999999999}`, `[]`, `1`, `{"id":6,`, "{\"t\":\"put\",\"id\":6,\"s\":\"a\xff\"}"} {
		if f, err := DecodeFrame([]byte(line)); err == nil || f != nil && f.ID != nil {
			t.Errorf("%s: %+v, %v", line, f, err)
		}
	}
}

// TestWhatOthersCannotRead: a value that other clients' parsers refuse is not taken: one that is not UTF-8, which ends a connection, and one that is too deep.
func TestWhatOthersCannotRead(t *testing.T) {
	put := `{"t":"put","id":6,"s":"a/b","ops":[{"k":"%s","oid":"m","key":"k","text":"x","%s":%s}]}`
	deep := func(n int) string { return strings.Repeat(`[{"]":`, n/2) + `"\"[["` + strings.Repeat("}]", n/2) }
	for _, field := range []string{"v", "ext", "parts"} {
		kind := map[string]string{"v": "set", "ext": "msg", "parts": "msg"}[field]
		for _, c := range []struct {
			value string
			code  Code
		}{{deep(MaxDepth), ""}, {deep(MaxDepth + 2), TooLarge}, {"[\"a\xc3(\"]", BadFrame}, {"[\"\xed\xa0\x80\"]", BadFrame}} {
			f, err := DecodeFrame(fmt.Appendf(nil, put, kind, field, c.value))
			if err == nil {
				_, err = f.Put("u", "d", false)
			}
			if (err == nil) != (c.code == "") || err != nil && ErrorOf(err).Code != c.code {
				t.Errorf("%s %.20q: %v", field, c.value, err)
			}
		}
	}
}
