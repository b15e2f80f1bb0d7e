package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// rig is a core that is connected and follows one session.
type rig struct {
	t    *testing.T
	core *core
	now  time.Time
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, core: newCore("phone", "test", 100), now: time.Unix(1_700_000_000, 0)}
	r.core.open(modelID, r.now)
	r.connect(`"ops":2`)
	r.in(`{"t":"snap","id":1,"s":"alice/trip","cur":"c0","map":{},"read":{},"more":false,"why":"new",
		"log":[{"k":"run","oid":"r","of":"q","seq":2,"at":"a","state":"running","ep":"1","text":"ab"}]}`)
	return r
}

func (r *rig) connect(max string) {
	r.core.begin("token", r.now)
	r.sent()
	r.in(`{"t":"welcome","id":1,"user":"alice","region":"a","max":{` + max + `},"regions":[]}`)
}

func (r *rig) in(line string) {
	r.t.Helper()
	frames, err := decodeFrames([]byte(strings.ReplaceAll(line, "\n", " ")))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range frames {
		if err := r.core.receive(f, r.now); err != nil {
			r.t.Fatal(err)
		}
	}
}

// sent is what the core has sent since it was last asked, time having passed.
func (r *rig) sent() []string {
	var lines []string
	if err := r.core.tick(r.now); err != nil {
		r.t.Fatal(err)
	}
	for _, f := range r.core.take(r.now) {
		lines = append(lines, strings.TrimSpace(string(encodeFrames([]any{f}))))
	}
	return lines
}

func (r *rig) expect(want ...string) {
	r.t.Helper()
	if got := r.sent(); !slices.Equal(got, want) {
		r.t.Fatalf("sent\n %s\nnot\n %s", strings.Join(got, "\n "), strings.Join(want, "\n "))
	}
}

func (r *rig) pass(d time.Duration) { r.now = r.now.Add(d) }

func (r *rig) put(oids ...string) []*pending {
	r.t.Helper()
	var all []*pending
	s := r.core.session(modelID)
	for _, oid := range oids {
		text := "text of " + oid
		o := op{K: "msg", OID: oid, Text: &text}
		raw, _ := json.Marshal(o)
		p := &pending{op: o, raw: raw, born: r.now}
		if err := r.core.admit(s); err != nil {
			r.t.Fatal(err)
		}
		r.core.enqueue(s, p, r.now)
		all = append(all, p)
	}
	return all
}

func ops(oids ...string) string {
	var all []string
	for _, oid := range oids {
		all = append(all, fmt.Sprintf(`{"k":"msg","oid":"%s","text":"text of %s"}`, oid, oid))
	}
	return strings.Join(all, ",")
}

// TestTokenStopsAtGap: after a piece that does not fit no token is taken until what is missing came; if it does not come
// the whole session is asked for.
func TestTokenStopsAtGap(t *testing.T) {
	r := newRig(t)
	r.pass(2 * time.Second)
	r.in(`{"t":"tok","s":"alice/trip","run":"r","ep":"1","off":4,"d":"ef","cur":"c2"}`)
	r.expect(`{"t":"open","id":2,"s":"alice/trip","cur":"c0"}`)
	r.in(`{"t":"tok","s":"alice/trip","run":"r","ep":"1","off":6,"d":"gh","cur":"c3"}`)
	r.in(`{"t":"delta","s":"alice/trip","cur":"c4","ops":[]}`)
	if cur := r.core.sessions[modelID].cur; cur != "c0" {
		t.Fatalf("token %s covers what is missing", cur)
	}
	r.in(`{"t":"delta","id":2,"s":"alice/trip","cur":"c4","ops":[]}`)
	r.in(`{"t":"tok","s":"alice/trip","run":"r","ep":"1","off":8,"d":"ij","cur":"c5"}`)
	r.expect()
	r.pass(askPause)
	r.expect(`{"t":"open","id":3,"s":"alice/trip"}`)
}

// TestBrokenAnswer: a closed answer that differs is asked for once, and marked if it differs still.
func TestBrokenAnswer(t *testing.T) {
	r := newRig(t)
	r.pass(2 * time.Second)
	done := `{"k":"run","oid":"r","of":"q","seq":2,"at":"a","state":"done","ep":"1","len":3,"sum":"0123456789abcdef","text":"ab"}`
	r.in(`{"t":"delta","s":"alice/trip","cur":"c1","ops":[` + done + `]}`)
	r.expect(`{"t":"open","id":2,"s":"alice/trip"}`)
	r.in(`{"t":"snap","id":2,"s":"alice/trip","cur":"c1","log":[` + done + `],"why":"new"}`)
	r.pass(time.Minute / 2)
	r.expect()
	if st := r.core.sessions[modelID].state(); !st.Log[0].Broken || !st.Live {
		t.Fatalf("%+v", st.Log[0])
	}
}

func TestPutsInOrder(t *testing.T) {
	r := newRig(t)
	all := r.put("1", "2", "3", "4")
	r.expect(`{"t":"put","id":2,"s":"alice/trip","ops":[` + ops("1") + `]}`)
	r.in(`{"t":"ok","id":2,"s":"alice/trip","cur":"c1","at":[{"oid":"1","seq":3,"at":"a"}],"regions":0,"safe":false}`)
	r.expect(`{"t":"put","id":3,"s":"alice/trip","ops":[` + ops("2", "3") + `]}`) // two at most
	r.in(`{"t":"err","id":3,"s":"alice/trip","code":"unavailable","msg":"no leader","retry":200}`)
	r.expect()
	r.pass(200 * time.Millisecond)
	r.expect(`{"t":"put","id":4,"s":"alice/trip","ops":[` + ops("2", "3") + `]}`)
	r.in(`{"t":"err","id":4,"s":"alice/trip","code":"conflict","msg":"2 is another op"}`) // each alone, to see which
	r.expect(`{"t":"put","id":5,"s":"alice/trip","ops":[` + ops("2") + `]}`)
	r.in(`{"t":"err","id":5,"s":"alice/trip","code":"conflict","msg":"2 is another op"}`)
	r.expect(`{"t":"put","id":6,"s":"alice/trip","ops":[` + ops("3") + `]}`)
	r.core.lost()
	r.connect(`"ops":10`)
	r.expect(`{"t":"put","id":2,"s":"alice/trip","ops":[` + ops("1") + `]}`) // to learn that it is safe
	var stages []Stage
	for _, p := range all {
		stages = append(stages, p.stage)
	}
	var why *Refusal
	if want := []Stage{Stored, Refused, Waiting, Waiting}; !slices.Equal(stages, want) || !errors.As(all[1].err, &why) {
		t.Fatalf("stages %v, refused for %v", stages, all[1].err)
	}
}

func TestResyncPutsAgain(t *testing.T) {
	r := newRig(t)
	p := r.put("1")[0]
	r.sent()
	r.in(`{"t":"ok","id":2,"s":"alice/trip","cur":"c1","at":[{"oid":"1","seq":3,"at":"a"}],"regions":0,"safe":false}`)
	r.in(`{"t":"snap","s":"alice/trip","cur":"c0","log":[],"why":"resync"}`)
	r.expect(`{"t":"put","id":3,"s":"alice/trip","ops":[` + ops("1") + `]}`)
	r.in(`{"t":"safe","s":"alice/trip","oids":["1"]}`)
	if p.stage != Safe || r.core.held != 0 || len(r.core.gone) != 1 || r.core.gone[0].oids[0] != "1" {
		t.Fatalf("%v, %d held, gone %v", p.stage, r.core.held, r.core.gone)
	}
}

func TestOutboxBounds(t *testing.T) {
	r := newRig(t)
	r.core.maxOutbox = 2
	all := r.put("1", "2")
	if err := r.core.admit(r.core.session(modelID)); !errors.Is(err, ErrOutboxFull) {
		t.Fatalf("a third op: %v", err)
	}
	r.core.lost()
	r.pass(defaultMaxAge + time.Second)
	r.connect("")
	r.expect()
	if !errors.Is(all[0].err, ErrExpired) || r.core.held != 0 || r.core.expired != 2 {
		t.Fatalf("an old op: %v, %d held", all[0].err, r.core.held)
	}
}

func TestUnansweredPutEndsConnection(t *testing.T) {
	r := newRig(t)
	r.put("1")
	r.sent()
	r.pass(putTimeout)
	if err := r.core.tick(r.now); !errors.Is(err, errNoReply) {
		t.Fatal(err)
	}
}

func TestOpenRefused(t *testing.T) {
	r := newRig(t)
	r.core.open("bob/x", r.now)
	r.expect(`{"t":"open","id":2,"s":"bob/x"}`)
	r.in(`{"t":"err","id":2,"s":"bob/x","code":"forbidden","msg":"not yours"}`)
	r.pass(time.Minute / 2)
	r.expect()
	if st := r.core.sessions["bob/x"].state(); st.Err == nil || st.Live {
		t.Fatalf("%+v", st)
	}
}

func TestRate(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBucket(10, now)
	if n := b.spend(now, 100); n != 8 {
		t.Fatalf("%d at once", n)
	}
	at := b.at(now)
	if n := b.spend(at, 100); n != 1 || at.Sub(now) > 200*time.Millisecond {
		t.Fatalf("%d after %s", n, at.Sub(now))
	}
}

func TestBehind(t *testing.T) {
	r := newRig(t)
	for _, behind := range []bool{true, false} {
		r.in(fmt.Sprintf(`{"t":"delta","s":"alice/trip","cur":"c1","ops":[],"behind":%v}`, behind))
		if st := r.core.sessions[modelID].state(); st.Behind != behind {
			t.Fatalf("behind %v", st.Behind)
		}
	}
	r.in(`{"t":"delta","s":"alice/trip","cur":"c1","ops":[],"behind":true}`)
	r.core.lost()
	r.connect("")
	r.in(`{"t":"delta","id":1,"s":"alice/trip","cur":"c1","ops":[]}`)
	if r.core.sessions[modelID].behind {
		t.Fatal("behind for ever, after a region that was")
	}
}

func TestOIDs(t *testing.T) {
	now := time.UnixMilli(1_469_918_176_385) // of the ULID specification's example
	a, b := newOID(now), newOID(now)
	if a == b || len(a) != 26 || a[:10] != "01ARYZ6S41" {
		t.Fatalf("%s %s", a, b)
	}
	for id, want := range map[string]bool{
		"alice/trip": true, "a/~x.y_z-1": true, "alice": false, "/x": false, "x/": false, "a/b/c": false, "a/b c": false,
		strings.Repeat("a", 64) + "/x": true, strings.Repeat("a", 65) + "/x": false, "": false,
	} {
		if ValidSession(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

// FuzzReceive: whatever a region sends, the core neither panics nor shows an entry twice or out of order.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"t":"welcome","id":1,"regions":[{"name":"a","url":"ws://a"}]}`))
	f.Add([]byte(`{"t":"snap","s":"alice/trip","cur":"c","log":[{"k":"run","oid":"r","ep":"1","text":"x"},{"k":"msg","oid":"r"}]}`))
	f.Add([]byte("{\"t\":\"delta\",\"s\":\"alice/trip\",\"ops\":[{\"k\":\"msg\",\"oid\":\"m\",\"seq\":3}]}\n" +
		`{"t":"tok","s":"alice/trip","run":"r","ep":"2","off":1,"d":"z"}`))
	f.Add([]byte(`{"t":"ok","id":2,"s":"alice/trip","at":[{"oid":"1","seq":1}],"safe":true}` + "\n" + `{"t":"err","id":2,"code":"conflict"}`))
	f.Add([]byte(`{"t":"delta","s":"alice/trip","ops":[{"k":"react","of":"r","v":{"a":1},"on":true,"hlc":"1"},{"k":"run","oid":"r"}]}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		frames, err := decodeFrames(message)
		if err != nil {
			return
		}
		r := newRig(t)
		r.put("1", "2")
		r.sent()
		for range 2 {
			for _, fr := range frames {
				if r.core.receive(fr, r.now) != nil {
					return
				}
			}
			r.pass(time.Second)
			r.sent()
		}
		log, seen := r.core.sessions[modelID].replica.show(), map[string]bool{}
		for i, e := range log {
			if seen[e.OID] || i > 0 && (log[i-1].Seq > e.Seq || log[i-1].Seq == e.Seq && log[i-1].At > e.At) {
				t.Fatalf("entry %d is doubled or out of order", i)
			}
			seen[e.OID] = true
		}
	})
}

// TestForgottenSession: a snap that comes by itself replaces what is held; own ops that are gone are settled like any other, and what
// their ok says of a place does not outlive the snap behind it.
func TestForgottenSession(t *testing.T) {
	r := newRig(t)
	own := r.put("m")[0]
	r.sent()
	gone := `{"t":"snap","s":"alice/trip","cur":"c2","map":{},"read":{},"log":[],"more":false,"why":"floor"}`
	r.in(`{"t":"ok","id":2,"s":"alice/trip","cur":"c1","at":[{"oid":"m","seq":3,"at":"a"}],"regions":0,"safe":false}`)
	r.in(gone)
	s := r.core.sessions[modelID]
	if st := s.state(); len(st.Log) != 0 || st.Why != "floor" || !st.Live || s.cur != "c2" || len(st.Outbox) != 1 {
		t.Fatalf("%+v, token %s", st, s.cur)
	}
	r.core.lost()
	r.connect("")
	r.in(`{"t":"delta","s":"alice/trip","cur":"c2","ops":[]}`)
	r.expect(`{"t":"put","id":2,"s":"alice/trip","ops":[` + ops("m") + `]}`)
	r.in(`{"t":"ok","id":2,"s":"alice/trip","cur":"c2","at":[{"oid":"m","seq":3,"at":"a"}],"regions":1,"safe":true}`)
	r.in(gone)
	if st := s.state(); len(st.Log) != 0 || len(st.Outbox) != 0 || own.stage != Safe {
		t.Fatalf("%+v, %s", st, own.stage)
	}
}
