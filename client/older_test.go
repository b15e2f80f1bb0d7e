package client

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// drivenEngine is an engine whose region the test plays.
type drivenEngine struct {
	t   *testing.T
	e   *Engine
	now time.Time
}

func driveEngine(t *testing.T, kept ...Item) *drivenEngine {
	t.Helper()
	d := &drivenEngine{t: t, now: time.UnixMilli(1_700_000_000_000)}
	var err error
	d.e, err = NewEngine(EngineConfig{
		Regions: []Region{{Name: "b", URL: "ws://b/"}}, Device: "d", Dice: func() float64 { return 1 },
	}, kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.e.Open("u/x", d.now); err != nil {
		t.Fatal(err)
	}
	d.e.Begin("dev:u", d.now)
	d.hear(`{"t":"welcome","id":1,"conn":"c","user":"u","region":"b","node":"n","ping":25,"exp":0,"max":{"frame":9000,"ops":10,"rate":50},"regions":[]}`)
	d.sends()
	return d
}

// hear has the engine take frames.
func (d *drivenEngine) hear(frames ...string) {
	d.t.Helper()
	for _, f := range frames {
		if err := d.e.Receive([]byte(f), d.now); err != nil {
			d.t.Fatal(err)
		}
	}
}

// sends returns the frames that the engine sends now.
func (d *drivenEngine) sends() []string {
	d.t.Helper()
	if err := d.e.Tick(d.now); err != nil {
		d.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(d.e.Take(d.now))), "\n")
}

func (d *drivenEngine) shows() (oids []string) {
	st, _ := d.e.State("u/x")
	for _, e := range st.Log {
		oids = append(oids, e.OID)
	}
	return oids
}

func msgAt(oid string, seq string) string {
	return `{"k":"msg","oid":"` + oid + `","seq":` + seq + `,"at":"b.1","ts":1,"user":"u","device":"e","role":"user","text":""}`
}

// TestOlderBeginsWhereTheLogIsWhole: a message that comes late, and stands before all that is held, does not hide what stands
// between.
func TestOlderBeginsWhereTheLogIsWhole(t *testing.T) {
	d := driveEngine(t)
	d.hear(`{"t":"snap","s":"u/x","cur":"c0","map":{},"read":{},"log":[`+msgAt("j", "10")+`,`+msgAt("k", "11")+`],"more":true,"why":"new"}`,
		`{"t":"delta","s":"u/x","cur":"c1","ops":[`+msgAt("c", "3")+`]}`)
	if got := d.shows(); !slices.Equal(got, []string{"j", "k"}) {
		t.Errorf("shows %v: what stands between c and j is not held", got)
	}
	d.e.Older("u/x", 2)
	d.e.Older("u/x", 2)
	if got := d.sends(); len(got) != 1 || !strings.Contains(got[0], `"before":10,"limit":2`) {
		t.Fatalf("sends %q, want one page before 10", got)
	}
	d.hear(`{"t":"page","id":2,"s":"u/x","log":[` + msgAt("h", "8") + `,` + msgAt("i", "9") + `],"more":true}`)
	if got := d.shows(); !slices.Equal(got, []string{"h", "i", "j", "k"}) {
		t.Errorf("shows %v", got)
	}
	d.e.Older("u/x", 9)
	d.sends()
	d.hear(`{"t":"page","id":3,"s":"u/x","log":[` + msgAt("a", "1") + `,` + msgAt("c", "3") + `,` + msgAt("g", "7") + `],"more":false}`)
	if got := d.shows(); !slices.Equal(got, []string{"a", "c", "g", "h", "i", "j", "k"}) {
		t.Errorf("shows %v", got)
	}
}

// TestPageOfAFormerSnapIsDropped: it need not reach up to what is held now.
func TestPageOfAFormerSnapIsDropped(t *testing.T) {
	d := driveEngine(t)
	d.hear(`{"t":"snap","s":"u/x","cur":"c0","map":{},"read":{},"log":[` + msgAt("j", "10") + `],"more":true,"why":"new"}`)
	d.e.Older("u/x", 2)
	d.sends()
	d.hear(`{"t":"snap","s":"u/x","cur":"c1","map":{},"read":{},"log":[`+msgAt("t", "20")+`],"more":true,"why":"resync"}`,
		`{"t":"page","id":2,"s":"u/x","log":[`+msgAt("i", "9")+`],"more":false}`)
	if got := d.shows(); !slices.Equal(got, []string{"t"}) {
		t.Errorf("shows %v", got)
	}
	if d.e.Older("u/x", 2); !strings.Contains(d.sends()[0], `"before":20`) {
		t.Error("nothing more can be asked for")
	}
}

// TestOpsAfterDifferentTokensGoApart: a token that was begun anew does not say what an op before came after.
func TestOpsAfterDifferentTokensGoApart(t *testing.T) {
	kept := func(oid, cur string, anew bool) Item {
		return Item{
			Session: "u/x", OID: oid, Born: time.UnixMilli(1_700_000_000_000), Cur: cur, Anew: anew,
			Op: json.RawMessage(`{"k":"msg","oid":"` + oid + `","text":""}`),
		}
	}
	d := driveEngine(t, kept("a", "far", true), kept("b", "farther", false), kept("c", "near", true))
	d.hear(`{"t":"snap","s":"u/x","cur":"c0","map":{},"read":{},"log":[],"more":false,"why":"new"}`,
		`{"t":"ok","id":2,"s":"u/x","cur":"c1","at":[{"oid":"a","seq":1,"at":"b.1"},{"oid":"b","seq":2,"at":"b.1"}],"regions":0,"safe":false}`)
	if got := d.sends(); len(got) != 1 || !strings.Contains(got[0], `"cur":"near"`) || strings.Contains(got[0], `"oid":"b"`) {
		t.Errorf("sends %q, want c alone, after its own token", got)
	}
}

// TestStopWaitsForItsAnswer: what was accepted elsewhere is put again while the region may yet come to have what it is about.
func TestStopWaitsForItsAnswer(t *testing.T) {
	d := driveEngine(t, Item{
		Session: "u/x", OID: "a", Born: time.UnixMilli(1_700_000_000_000), Op: json.RawMessage(`{"k":"stop","oid":"a","run":"r"}`),
	})
	d.hear(`{"t":"snap","s":"u/x","cur":"c0","map":{},"read":{},"log":[],"more":false,"why":"new"}`)
	for id := 2; ; id++ {
		d.hear(`{"t":"err","id":` + strconv.Itoa(id) + `,"s":"u/x","code":"not_found","msg":"no run r"}`)
		if gone := d.e.Gone(); len(gone) > 0 {
			break
		}
		d.now = d.now.Add(defaultRetry)
		d.hear(`{"t":"ping"}`)
		if got := d.sends(); !strings.Contains(strings.Join(got, ""), `"oid":"a"`) {
			t.Fatalf("sends %q after %d refusals", got, id-1)
		}
	}
	if waited := d.now.Sub(time.UnixMilli(1_700_000_000_000)); waited < missedLimit || waited > missedLimit+defaultRetry {
		t.Errorf("given up after %s", waited)
	}
}

// TestStopsWaitTogether: what a region that was lost took with it is waited for once, however many ops are about it.
func TestStopsWaitTogether(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_000)
	var kept []Item
	for _, oid := range []string{"a", "b", "c"} {
		kept = append(kept, Item{Session: "u/x", OID: oid, Born: start, Op: json.RawMessage(`{"k":"stop","oid":"` + oid + `","run":"r"}`)})
	}
	d := driveEngine(t, kept...)
	d.hear(`{"t":"snap","s":"u/x","cur":"c0","map":{},"read":{},"log":[],"more":false,"why":"new"}`)
	gone := 0
	for id := 2; gone < len(kept) && id < 100; id++ {
		d.hear(`{"t":"err","id":` + strconv.Itoa(id) + `,"s":"u/x","code":"not_found","msg":"no run r"}`)
		gone += len(d.e.Gone())
		for wait := 0; gone < len(kept) && wait < 2 && !strings.Contains(strings.Join(d.sends(), ""), `"put"`); wait++ {
			d.now = d.now.Add(defaultRetry)
			d.hear(`{"t":"ping"}`)
		}
	}
	if waited := d.now.Sub(start); gone < len(kept) || waited < missedLimit || waited > missedLimit+2*defaultRetry {
		t.Errorf("%d of %d are given up after %s", gone, len(kept), waited)
	}
}

// TestOpPutWithoutConnectionSaysWhatItComesAfter: a region knows that of what is put while the session is open there, and of nothing
// else.
func TestOpPutWithoutConnectionSaysWhatItComesAfter(t *testing.T) {
	d := driveEngine(t)
	d.hear(`{"t":"snap","s":"u/x","cur":"far","map":{},"read":{},"log":[],"more":false,"why":"new"}`)
	d.e.Lost(d.now)
	if _, err := d.e.Put(Item{Session: "u/x", OID: "a", Born: d.now, Op: json.RawMessage(`{"k":"msg","oid":"a","text":""}`)}, d.now); err != nil {
		t.Fatal(err)
	}
	d.e.Close("u/x")
	if err := d.e.Open("u/x", d.now); err != nil {
		t.Fatal(err)
	}
	d.e.Begin("dev:u", d.now)
	d.hear(`{"t":"welcome","id":1,"conn":"c","user":"u","region":"b","node":"n","ping":25,"exp":0,"max":{"frame":9000,"ops":10,"rate":50},"regions":[]}`,
		`{"t":"snap","s":"u/x","cur":"near","map":{},"read":{},"log":[],"more":false,"why":"new"}`)
	if got := strings.Join(d.sends(), "\n"); !strings.Contains(got, `"t":"put","id":2,"s":"u/x","cur":"far"`) {
		t.Errorf("sends %s", got)
	}
}
