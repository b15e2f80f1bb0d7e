package check

import (
	"strings"
	"testing"
)

// TestDeviceFindsWhatIsPlanted: conversations, ">" for what is sent, with a fault in them and without.
func TestDeviceFindsWhatIsPlanted(t *testing.T) {
	const hello = `>{"t":"hello","id":1,"token":"dev:u","device":"d","open":[{"s":"u/x"}]}`
	const snap = `{"t":"snap","id":1,"s":"u/x","cur":"c","map":{},"read":{},"log":[` + question + `],"more":false,"why":"new"}`
	const put = `>{"t":"put","id":2,"s":"u/x","ops":[{"k":"msg","oid":"own","text":"yes"}]}`
	const news = `{"k":"msg","oid":"n","seq":3,"at":"b","ts":1,"user":"u","device":"e","role":"user","text":"so"}`
	const ok = `{"t":"ok","id":2,"s":"u/x","cur":"c2","at":[{"oid":"own","seq":2,"at":"b"}],"regions":0,"safe":false}`
	const open = `>{"t":"open","id":4,"s":"u/x","cur":"c"}`
	const live = `{"t":"delta","s":"u/x","cur":"c2","ops":[` + slot + `,` + news + `]}`
	again := strings.Replace(live, `"s"`, `"id":4,"s"`, 1)
	for _, c := range []struct {
		name  string
		lines []string
		fault string
	}{
		{"asked twice for the same", []string{hello, snap, live, open, strings.Replace(open, "4", "5", 1), again, strings.Replace(again, `:4`, `:5`, 1)}, ""},
		{"asked once, and got it twice", []string{hello, snap, live, open, again, live}, "again"},
		{"all is well", []string{hello, snap, put, ok}, ""},
		{"it stands before what was seen", []string{hello, snap, put, strings.Replace(ok, `"seq":2`, `"seq":1`, 1)}, "was seen"},
		{"a view's fault", []string{hello, snap, piece}, "not held"},
		{"asked anew", []string{hello, snap, strings.Replace(hello, `"id":1`, `"id":3`, 1), begun, snap}, ""},
		{"a field missing", []string{hello, strings.Replace(snap, `"map":{},`, "", 1)}, `no "map"`},
		{"no JSON", []string{"{"}, "not JSON"},
		{"no JSON sent", []string{">{"}, "sends"},
	} {
		d, stored := NewDevice("u", "d"), 0
		d.Stored = func(_ string, op Item, at Place) {
			if op.Text == nil || *op.Text != "yes" || at.OID != "own" {
				t.Errorf("%s: stored %+v at %+v", c.name, op, at)
			}
			stored++
		}
		for _, line := range c.lines {
			if out, sends := strings.CutPrefix(line, ">"); sends {
				d.Sent([]byte(out))
			} else {
				d.Got([]byte(line))
			}
		}
		if found := strings.Join(d.Faults, "\n"); (found == "") != (c.fault == "") || !strings.Contains(found, c.fault) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.fault)
		}
		if acks := strings.Count(strings.Join(c.lines, ""), `"t":"ok"`); stored != acks {
			t.Errorf("%s: %d stored, %d acknowledged", c.name, stored, acks)
		}
	}
}
