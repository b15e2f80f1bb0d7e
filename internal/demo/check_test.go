package demo

import (
	"slices"
	"testing"
)

func sound() (Script, []Holding) {
	script := Script{Title: "T", Messages: []Said{{OID: "q", Text: "to be or not", Asks: true}, {OID: "n", Text: "note"}}}
	holding := func(name string) Holding {
		return Holding{Name: name, Title: "T", Entries: []Held{
			{OID: "q", Seq: 1, At: "a.1", Text: "to be or not"},
			{OID: "run", Of: "q", Seq: 2, At: "a.1", Text: "to be or not"},
			{OID: "n", Seq: 3, At: "a.1", Text: "note"},
		}}
	}
	return script, []Holding{holding("phone"), holding("laptop"), holding("recorder")}
}

func TestCheckSound(t *testing.T) {
	r := Check(sound())
	if !r.OK() || r.Messages != 2 || r.Answers != 1 || r.Bytes != 12 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestCheckFindsPlantedFaults: every fault, planted at one holder, is counted as what it is and as nothing else.
func TestCheckFindsPlantedFaults(t *testing.T) {
	for name, c := range map[string]struct {
		plant                        func(*Holding)
		lost, duplicated, disordered int
	}{
		"dropped message": {func(h *Holding) { h.Entries = slices.Delete(h.Entries, 2, 3) }, 1, 0, 0},
		"dropped answer":  {func(h *Holding) { h.Entries = slices.Delete(h.Entries, 1, 2) }, 1, 0, 0},
		"doubled message": {func(h *Holding) { h.Entries = append(h.Entries, h.Entries[2]) }, 0, 1, 0},
		"doubled answer":  {func(h *Holding) { h.Entries = slices.Insert(h.Entries, 1, h.Entries[1]) }, 0, 1, 0},
		"doubled byte":    {func(h *Holding) { h.Entries[1].Text = "to bee or not" }, 0, 1, 0},
		"doubled word":    {func(h *Holding) { h.Entries[1].Text = "to be be or not" }, 0, 3, 0},
		"missing byte":    {func(h *Holding) { h.Entries[1].Text = "to b or not" }, 1, 0, 0},
		"wrong byte":      {func(h *Holding) { h.Entries[1].Text = "to Be or not" }, 1, 1, 0},
		"wrong message":   {func(h *Holding) { h.Entries[2].Text = "other" }, 1, 0, 0},
		"unknown message": {func(h *Holding) { h.Entries = append(h.Entries, Held{OID: "x", Seq: 9}) }, 0, 1, 0},
		"swapped": {func(h *Holding) {
			h.Entries[1], h.Entries[2] = h.Entries[2], h.Entries[1]
			h.Entries[1].Seq, h.Entries[2].Seq = 2, 3
		}, 0, 0, 1},
		"unsorted":         {func(h *Holding) { h.Entries[2].Seq = 1 }, 0, 0, 1},
		"wrong title":      {func(h *Holding) { h.Title = "" }, 1, 0, 0},
		"stream doubled":   {func(h *Holding) { h.Doubled = 3 }, 0, 3, 0},
		"stream had a gap": {func(h *Holding) { h.Missing = 2 }, 2, 0, 0},
	} {
		for i := range 3 {
			script, holdings := sound()
			c.plant(&holdings[i])
			r := Check(script, holdings)
			if r.OK() || r.Lost != c.lost || r.Duplicated != c.duplicated || i > 0 && r.Disordered != c.disordered || len(r.Problems) == 0 {
				t.Errorf("%s at %s: %+v", name, holdings[i].Name, r)
			}
		}
	}
	script, _ := sound()
	if r := Check(script, nil); r.OK() {
		t.Error("nobody holds anything, and all is well?")
	}
}

func TestRecorderNotesStream(t *testing.T) {
	text := func(s string) *string { return &s }
	r := &recorder{session: "s", entries: map[string]*recorded{}, changed: make(chan struct{})}
	entry := func(k, oid, of string, seq uint64, t *string) {
		r.note(&recorderFrame{T: "delta", S: "s", Ops: []recorderItem{{K: k, OID: oid, Of: of, Seq: seq, At: "a.1", Text: t}}})
	}
	entry("msg", "q", "", 1, text("hi"))
	entry("run", "r", "q", 2, text(""))
	for _, p := range []recorderFrame{{Off: 0, D: "abc"}, {Off: 2, D: "cd"}, {Off: 5, D: "f"}} {
		p.T, p.S, p.Run = "tok", "s", "r"
		r.note(&p)
	}
	entry("msg", "q", "", 1, text("hi"))
	h := r.holding()
	if h.Doubled != 1 || h.Missing != 1 || len(h.Entries) != 3 || h.Entries[0].OID != "q" || h.Entries[1].OID != "q" {
		t.Fatalf("%+v", h)
	}
}
