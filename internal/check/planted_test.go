package check

import (
	"strings"
	"testing"
)

// The checker is itself checked: sequences of frames with a fault in them, and one without.

const (
	question = `{"k":"msg","oid":"q","seq":1,"at":"b","ts":1,"user":"u","device":"d","role":"user","text":"hi"}`
	slot     = `{"k":"run","oid":"r","seq":2,"at":"b","ts":1,"of":"q","model":"","state":"running","ep":"5"}`
	begun    = `{"t":"delta","s":"u/x","cur":"c1","ops":[` + question + `,` + slot + `]}`
	piece    = `{"t":"tok","s":"u/x","run":"r","ep":"5","off":0,"d":"one "}`
	piece2   = `{"t":"tok","s":"u/x","run":"r","ep":"5","off":4,"d":"two"}`
)

// behind is the frame that says whether a region lacks something.
func behind(is string) string {
	return `{"t":"delta","s":"u/x","cur":"c","ops":[],"behind":` + is + `}`
}

const floored = `{"t":"snap","s":"u/x","cur":"c","map":{},"read":{},"log":[],"more":false,"why":"floor","behind":false}`

func setting(oid, hlc string) string {
	return `{"t":"delta","s":"u/x","cur":"c","ops":[{"k":"set","oid":"` + oid + `","key":"title","v":1,"user":"u","ts":1,"hlc":"` + hlc + `"}]}`
}

func ended(text, sum string) string {
	return `{"t":"delta","s":"u/x","cur":"c2","ops":[{"k":"run","oid":"r","seq":2,"at":"b","ts":1,"of":"q","model":"","state":"done","ep":"5","len":7,"sum":"` +
		sum + `","fin":"end"` + text + `}]}`
}

func TestCheckerFindsWhatIsPlanted(t *testing.T) {
	good := ended("", Digest("one two"))
	cases := []struct {
		name   string
		frames []string
		fault  string // "" for none
	}{
		{"all is well", []string{begun, piece, piece2, good}, ""},
		{"a resume with the whole text", []string{begun, piece, ended(`,"text":"one two"`, Digest("one two"))}, ""},
		{"a new attempt", []string{begun, piece, strings.Replace(piece, `"5"`, `"6"`, 1)}, ""},
		{"a piece twice", []string{begun, piece, piece}, "came twice"},
		{"a piece that overlaps", []string{begun, piece, strings.Replace(piece2, `"off":4`, `"off":3`, 1)}, "came twice"},
		{"a piece missing", []string{begun, piece2}, "are missing"},
		{"an attempt that goes back", []string{begun, strings.Replace(piece, `"5"`, `"4"`, 1)}, "tok for attempt 4"},
		{"an entry whose attempt goes back", []string{begun, strings.Replace(begun, `"ep":"5"`, `"ep":"4"`, 1)}, "went back"},
		{"a tok without a run", []string{piece}, "not held"},
		{"a tok after the end", []string{begun, piece, piece2, good, strings.Replace(piece2, `"off":4`, `"off":7`, 1)}, "is closed"},
		{"an answer before its question", []string{`{"t":"delta","s":"u/x","cur":"c","ops":[` + slot + `]}`}, "before its question"},
		{"an end without all bytes", []string{begun, piece, good}, "len 7"},
		{"a wrong sum", []string{begun, piece, piece2, ended("", "0123456789abcdef")}, "sum 0123"},
		{"a text that changed", []string{begun, piece, ended(`,"text":"ten two"`, Digest("ten two"))}, "does not continue"},
		{"a closed run without its text", []string{`{"t":"delta","s":"u/x","cur":"c","ops":[` + question + `]}`, good}, "without its text"},
		{"the end of what was removed, from a region that is behind", []string{behind("true"), good, floored}, ""},
		{"an end alone, left by a region that was behind", []string{behind("true"), good, behind("false")}, "left so"},
		{"an entry again", []string{begun, `{"t":"delta","s":"u/x","cur":"c","ops":[` + question + `]}`}, "again"},
		{"an entry at another place", []string{begun, `{"t":"delta","s":"u/x","cur":"c","ops":[` + strings.Replace(question, `"at":"b"`, `"at":"a"`, 1) + `]}`}, ""},
		{"a setting", []string{setting("s1", "1")}, ""},
		{"a setting again", []string{setting("s1", "1"), setting("s1", "1")}, "again"},
		{"a setting with a smaller stamp", []string{setting("s1", "2"), setting("s1", "1")}, ""},
		{"a snap that lost", []string{begun, `{"t":"snap","s":"u/x","cur":"c","map":{},"read":{},"log":[],"more":false,"why":"resync"}`}, "lost"},
		{"a snap with an entry twice", []string{`{"t":"snap","s":"u/x","cur":"c","map":{},"read":{},"log":[` + question + `,` + question + `],"more":false,"why":"resync"}`}, "twice"},
		{"a snap out of order", []string{`{"t":"snap","s":"u/x","cur":"c","map":{},"read":{},"log":[` + question + `,` + strings.NewReplacer(`"seq":1`, `"seq":0`, `"q"`, `"p"`).Replace(question) + `],"more":false,"why":"resync"}`}, "order"},
		{"a field missing", []string{`{"t":"delta","s":"u/x","ops":[]}`}, `no "cur"`},
		{"an entry's field missing", []string{strings.Replace(begun, `"role":"user",`, "", 1)}, `no "role"`},
		{"a closed run without sum", []string{begun, piece, piece2, strings.Replace(good, `"sum"`, `"xxsum"`, 1)}, `no "sum"`},
		{"an unknown error code", []string{`{"t":"err","code":"oops","msg":"x"}`}, "unknown code"},
		{"own op sent back", []string{`{"t":"ok","id":1,"s":"u/x","cur":"c","at":[{"oid":"own","seq":3,"at":"b"}],"regions":0,"safe":false}`,
			`{"t":"delta","s":"u/x","cur":"c","ops":[` + strings.NewReplacer(`"q"`, `"own"`, `"seq":1`, `"seq":3`).Replace(question) + `]}`}, "again"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := "hi"
			v := NewView("u/x")
			v.Own["own"] = Item{K: "msg", OID: "own", Text: &text}
			frames, err := Parse([]byte(strings.Join(c.frames, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, f := range frames {
				all = append(all, f.Missing...)
				v.Apply(f)
			}
			found := strings.Join(append(all, v.Faults...), "\n")
			if (found == "") != (c.fault == "") || !strings.Contains(found, c.fault) {
				t.Errorf("found %q, want %q", found, c.fault)
			}
		})
	}
}

// TestPieceAfterTheCur: a client that comes back with a cur may be sent again what had followed that, and nothing else, whatever curs the
// answer bears.
func TestPieceAfterTheCur(t *testing.T) {
	for _, c := range []struct {
		name, first string
		fault       bool
	}{
		{"it had no cur", piece, false},
		{"it had one", strings.Replace(piece, `"off"`, `"cur":"c1","off"`, 1), true},
	} {
		v := NewView("u/x")
		apply := func(lines ...string) {
			frames, err := Parse([]byte(strings.Join(lines, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				v.Apply(f)
			}
		}
		apply(begun, c.first)
		v.Opening("c1")
		apply(`{"t":"delta","s":"u/x","cur":"c1","ops":[]}`, piece)
		if c.fault != (len(v.Faults) > 0) {
			t.Errorf("%s: %v", c.name, v.Faults)
		}
		if e := v.Entries["r"]; e.Shown != "one " {
			t.Errorf("%s: it holds %q", c.name, e.Shown)
		}
	}
}

// TestSettings: one oid keeps its smallest stamp, which may uncover another op; per key the greatest stamp wins.
func TestSettings(t *testing.T) {
	v := NewView("u/x")
	for _, step := range []struct{ oid, hlc, wins string }{
		{"a", "5", "5"}, {"b", "3", "5"}, {"a", "2", "3"}, {"a", "9", "3"}, {"c", "4", "4"},
	} {
		frames, err := Parse([]byte(setting(step.oid, step.hlc)))
		if err != nil {
			t.Fatal(err)
		}
		v.Apply(frames[0])
		if got := v.Values["title"].HLC; got != step.wins {
			t.Errorf("after %s at %s the title is of %s, want %s", step.oid, step.hlc, got, step.wins)
		}
	}
}

// FuzzView: whatever comes, a view finds fault or does not; it never panics.
func FuzzView(f *testing.F) {
	f.Add([]byte(strings.Join([]string{begun, piece, piece2, ended("", Digest("one two")), setting("s1", "1")}, "\n")))
	f.Add([]byte(`{"t":"tok","s":"u/x","run":"r","ep":"9","off":-1,"d":"x"}`))
	f.Add([]byte(`{"t":"snap","s":"u/x","cur":"c","map":{"a":{}},"read":{},"log":[` + question + `],"more":true,"why":"new","behind":true}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		v := NewView("u/x")
		text := "hi"
		v.Own["own"] = Item{K: "msg", OID: "own", Text: &text}
		frames, _ := Parse(message)
		for _, fr := range frames {
			v.Apply(fr)
		}
		_ = v.String()
	})
}
