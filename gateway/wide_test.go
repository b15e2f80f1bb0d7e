package gateway

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// lives are the incarnations of a region that was killed so often, each of which has numbered some of a session.
func lives(n int) (all []crdt.Origin) {
	for i := range n {
		all = append(all, crdt.NewOrigin("shanghai", 1_700_000_000_000_000_000+uint64(i)<<32))
	}
	return all
}

func seenOf(origins []crdt.Origin, f uint64) crdt.Vector {
	v := crdt.Vector{}
	for i, o := range origins {
		v[o.ID()] = f + uint64(i)
	}
	return v
}

// TestTokensOfManyLives: whatever is minted is read again as it was, of a region that is behind as well.
func TestTokensOfManyLives(t *testing.T) {
	tk := tokens{testKeys}
	for _, n := range []int{1, 80, 81, 300} {
		p := position{seen: seenOf(lives(n), 1), floor: crdt.Floor{Seq: 1 << 40, Stamp: 1 << 62}}
		behind := p
		behind.shown, behind.lent = p.seen, p.seen
		for _, p := range []position{p, behind} {
			cur := tk.mint(&p, "alice", "alice/a")
			if got, err := tk.parse(cur, "alice", "alice/a"); err != nil || !reflect.DeepEqual(got, p) {
				t.Errorf("%d incarnations, behind %t: %d characters, %v", n, p.shown != nil, len(cur), err)
			}
		}
	}
}

// TestTooManyLivesForAToken: beyond what a token can say, it says that it does not, and only from when on its holder's puts are.
func TestTooManyLivesForAToken(t *testing.T) {
	tk := tokens{testKeys}
	p := position{seen: seenOf(lives(2000), 1), floor: crdt.Floor{Seq: 7, Stamp: 1 << 62}}
	cur := tk.mint(&p, "alice", "alice/a")
	if got, err := tk.parse(cur, "alice", "alice/a"); err != errWide || got.floor != p.floor || got.seen != nil || len(cur) > 64 {
		t.Errorf("%+v, %v, %q", got, err, cur)
	}
	if _, err := tk.parse(cur, "alice", "alice/b"); err != errToken {
		t.Errorf("another session's: %v", err)
	}
	for n := 700; n < 1200; n++ { // wherever the bound is, nothing that is minted is refused
		p.seen = seenOf(lives(n), 1)
		cur := tk.mint(&p, "alice", "alice/a")
		if got, err := tk.parse(cur, "alice", "alice/a"); len(cur) > wire.MaxCur || err == errToken || err == nil && !reflect.DeepEqual(got, p) {
			t.Fatalf("%d incarnations: %d characters, %v", n, len(cur), err)
		}
	}
}

// TestSessionOfManyLives: clients of a session that hundreds of incarnations have written to are sent exactly what they lack; those of one that
// no token can tell are shown it anew, and put after all that they saw.
func TestSessionOfManyLives(t *testing.T) {
	for _, c := range []struct {
		lives  int
		wide   float64
		frames string
	}{{300, 0, "delta"}, {2000, 1, "snap"}} {
		t.Run(fmt.Sprint(c.lives), func(t *testing.T) {
			r := newRig(t, Config{})
			for i, o := range lives(c.lives) {
				r.f.quietly(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: fmt.Sprint("m", i), User: "alice", Role: "user", Text: "x", Seq: uint64(i + 1), Stamp: crdt.Stamp(i+1) << 20}, o)
			}
			d := r.hello()
			d.say(`{"t":"open","id":2,"s":"alice/a"}`)
			cur := d.want("snap").str("cur")
			r.f.quietly(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "late", User: "alice", Role: "user", Text: "x", Seq: uint64(c.lives + 1), Stamp: crdt.Stamp(c.lives+1) << 20}, shanghai)

			d = r.hello()
			d.say(`{"t":"open","id":3,"s":"alice/a","cur":%q}`, cur)
			f := d.want(c.frames)
			if ops, _ := f["ops"].([]any); c.wide == 0 && len(ops) != 1 || c.wide > 0 && (f.str("why") != "resync" || len(logOf(f)) != wire.DefTail) {
				t.Errorf("it is sent %.2000v", f)
			}
			d.say(`{"t":"put","id":4,"s":"alice/a","ops":[{"k":"msg","oid":"o","text":"x"}]}`)
			d.stands(c.lives + 2)
			far := newRig(t, Config{}).hello() // where nothing of it is known
			far.say(`{"t":"put","id":2,"s":"alice/a","cur":%q,"ops":[{"k":"msg","oid":"o","text":"x"}]}`, cur)
			far.stands(c.lives + 1)
			if n := testutil.ToFloat64(r.g.metrics.resync.WithLabelValues("wide")); n != c.wide {
				t.Errorf("%v were counted", n)
			}
		})
	}
}

// stands checks at which seq an op stands that was put.
func (d *driven) stands(seq int) {
	d.rig.t.Helper()
	if at := d.want("ok")["at"].([]any)[0].(map[string]any); at["seq"].(float64) != float64(seq) {
		d.rig.t.Errorf("it stands at %v, not at %d", at, seq)
	}
}

// TestTokenCountsForNoFrame: a frame may be as long as was told, whatever token it carries, and no longer.
func TestTokenCountsForNoFrame(t *testing.T) {
	r := newRig(t, Config{})
	cur := r.g.tokens.Load().mint(&position{seen: seenOf(lives(300), 1)}, "alice", "alice/a")
	for over, typ := range map[int]string{0: "ok", 1: "err"} {
		d := r.hello()
		const put = `{"t":"put","id":2,"s":"alice/a","cur":"%s","ops":[{"k":"msg","oid":"o%d","text":"%s"}]}`
		room := wire.MaxFrame - len(fmt.Sprintf(put, "", over, "")) + over
		d.say(put, cur, over, strings.Repeat("x", room))
		if f := d.want(typ); typ == "err" && f.str("code") != "too_large" {
			t.Errorf("%v", f)
		}
	}
}
