package client

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What is here is about what an op comes after, wherever it is put in the end.

func (r *rig) lose() {
	r.core.lost()
	r.core.settle(r.core.session(modelID))
}

// follow has somebody put an op, as a Session does.
func (r *rig) follow(oids ...string) (all []*pending) {
	s := r.core.session(modelID)
	for _, oid := range oids {
		after := s.follows()
		raw := fmt.Sprintf(`{"k":"msg","oid":%q,"text":"text of %s"}`, oid, oid)
		p, err := newPending(Item{Session: modelID, OID: oid, Born: r.now, Op: []byte(raw)})
		if err != nil {
			r.t.Fatal(err)
		}
		p.stand = after
		if err := r.core.admit(s); err != nil {
			r.t.Fatal(err)
		}
		r.core.enqueue(s, p, r.now)
		all = append(all, p)
	}
	return all
}

// put is the last put that was sent.
func lastPut(t *testing.T, lines []string) string {
	t.Helper()
	for _, line := range lines {
		if strings.Contains(line, `"t":"put"`) {
			return line
		}
	}
	t.Fatalf("no put in %q", lines)
	return ""
}

// TestPutComesAfterWhatIsShown: what follows a piece that is missing is shown, and what is put then comes after that, though the session is resumed from before.
func TestPutComesAfterWhatIsShown(t *testing.T) {
	r := newRig(t)
	r.in(`{"t":"tok","s":"alice/trip","run":"r","ep":"1","off":4,"d":"ef","cur":"c2"}`)
	r.in(`{"t":"delta","s":"alice/trip","cur":"c4","ops":[{"k":"msg","oid":"m","seq":94,"at":"a","text":"so"}]}`)
	r.lose()
	r.follow("1")
	r.core.begin("token", r.now)
	if hello := r.sent(); !strings.Contains(hello[0], `"cur":"c0"`) {
		t.Fatalf("it resumes past what is missing: %s", hello)
	}
	r.in(`{"t":"welcome","id":1,"user":"alice","region":"b","max":{},"regions":[]}`)
	if put := lastPut(t, r.sent()); !strings.Contains(put, `"cur":"c4"`) {
		t.Fatalf("the user was shown what c4 covers, and it is put so: %s", put)
	}
}

// TestSafeOpsKeepTheirPlace: an op that is safe in a region and one more leaves the outbox only when those after it are known to come after it in any other.
func TestSafeOpsKeepTheirPlace(t *testing.T) {
	const ok = `{"t":"ok","id":%d,"s":"alice/trip",%s"at":[{"oid":"1","seq":95,"at":"a"}],"regions":1,"safe":true}`
	for _, c := range []struct {
		name, cur string
		live      bool
		first     bool // the second op is put while the first is under way
		want      string
	}{
		{"the token tells", `"cur":"c95",`, true, false, `"cur":"c95","ops":[` + ops("2") + `]`},
		{"it was under way", `"cur":"c95",`, true, true, `"cur":"c95","ops":[` + ops("2") + `]`},
		{"no token tells", "", false, false, `"cur":"c0","ops":[` + ops("1", "2") + `]`},
		{"no token tells, and it was under way", "", false, true, `"cur":"c0","ops":[` + ops("1", "2") + `]`},
	} {
		r := newRig(t)
		if !c.live { // the region is waited for
			r.lose()
			r.connect(`"ops":2`)
		}
		r.follow("1")
		r.sent()
		if c.first {
			r.follow("2")
		}
		id := r.core.sessions[modelID].queue.flight
		r.in(fmt.Sprintf(ok, id, c.cur))
		if !c.first {
			r.follow("2")
		}
		var shown []string
		for _, o := range r.core.sessions[modelID].state().Outbox {
			shown = append(shown, o.OID)
		}
		if strings.Join(shown, " ") != "2" {
			t.Errorf("%s: the outbox shows %q", c.name, shown)
		}
		r.core.close(r.core.sessions[modelID]) // so that the region knows no token but that of the put
		r.lose()
		r.connect(`"ops":2`)
		if put := lastPut(t, r.sent()); !strings.Contains(put, c.want) {
			t.Errorf("%s: it puts\n%s, not\n%s", c.name, put, c.want)
		}
	}
}

// TestSafeOpIsNotRefused: one that is put again for the order only stays safe, whatever the region says of it.
func TestSafeOpIsNotRefused(t *testing.T) {
	r := newRig(t)
	r.lose()
	r.connect(`"ops":1`)
	one := r.follow("1")[0]
	r.sent()
	r.in(fmt.Sprintf(`{"t":"ok","id":%d,"s":"alice/trip","at":[{"oid":"1","seq":95,"at":"a"}],"regions":1,"safe":true}`, r.core.sessions[modelID].queue.flight))
	r.follow("2")
	r.lose()
	r.connect(`"ops":1`)
	r.in(fmt.Sprintf(`{"t":"err","id":%d,"s":"alice/trip","code":"busy","msg":"no"}`, r.core.sessions[modelID].queue.flight))
	if one.stage != Safe || one.err != nil || r.core.held != 1 {
		t.Errorf("it is %s (%v), and %d ops are held", one.stage, one.err, r.core.held)
	}
}

// TestAnewUntilOneIsPut: a token that was begun anew is known to be one until an op that bears it is in the outbox, whatever becomes of others.
func TestAnewUntilOneIsPut(t *testing.T) {
	r := newRig(t)
	s := r.core.session(modelID)
	r.follow("1")
	r.sent()
	r.in(`{"t":"snap","s":"alice/trip","cur":"n1","map":{},"read":{},"more":false,"why":"resync","log":[]}`)
	s.follows() // one that the outbox on disk did not take
	if r.follow("2"); !s.queue.ops[1].anew {
		t.Error("it is to go with what came after an unrelated token")
	}
	if r.follow("3"); s.queue.ops[2].anew {
		t.Error("it is not to go with the one before")
	}
}

// TestLateAnswer: an answer that takes longer than the client likes to wait is taken when it comes, also if it was asked for once more meanwhile; and
// it is asked for less and less often.
func TestLateAnswer(t *testing.T) {
	for _, c := range []struct{ name, id string }{{"to the hello", ""}, {"to the first", `"id":1,`}, {"to the last", `"id":3,`}} {
		r := newRig(t)
		r.lose()
		r.connect(`"ops":2`)
		asked := 0
		for range 60 {
			r.pass(time.Second)
			r.in(`{"t":"ping"}`)
			asked += strings.Count(strings.Join(r.sent(), ""), `"t":"open"`)
		}
		if asked != 2 {
			t.Errorf("%s: it was asked for %d times more in a minute", c.name, asked)
		}
		r.in(`{"t":"delta",` + c.id + `"s":"alice/trip","cur":"c9","ops":[]}`)
		if s := r.core.sessions[modelID]; !s.live || s.cur != "c9" {
			t.Errorf("%s: live %v, at %s", c.name, s.live, s.cur)
		}
		r.pass(time.Hour / 60)
		r.in(`{"t":"ping"}`)
		if got := r.sent(); len(got) != 1 {
			t.Errorf("%s: then it sends %q", c.name, got)
		}
	}
}

// TestAllOfItIsAskedFor: that an answer's text is wrong, found while something else is asked for, is not forgotten with the answer to that.
func TestAllOfItIsAskedFor(t *testing.T) {
	r := newRig(t)
	r.pass(2 * time.Second)
	r.in(`{"t":"tok","s":"alice/trip","run":"r","ep":"1","off":4,"d":"ef","cur":"c2"}`)
	r.expect(`{"t":"open","id":2,"s":"alice/trip","cur":"c0"}`)
	r.in(`{"t":"delta","s":"alice/trip","cur":"c3","ops":[{"k":"run","oid":"r","of":"q","seq":2,"at":"a","state":"done","ep":"1","len":3,"sum":"0123456789abcdef"}]}`)
	r.in(`{"t":"delta","id":2,"s":"alice/trip","cur":"c4","ops":[]}`)
	r.pass(askPause)
	r.expect(`{"t":"open","id":3,"s":"alice/trip"}`)
}
