package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

func TestVersionIsAgreedOn(t *testing.T) {
	_, url := serve(t, newFake())
	res, err := http.Get("http" + strings.TrimPrefix(url, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), Subprotocol) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestHelloIsRefused(t *testing.T) {
	_, url := serve(t, newFake())
	for _, c := range []struct {
		say, code string
		status    websocket.StatusCode
	}{
		{`{"t":"open","id":1,"s":"alice/a"}`, "bad_frame", 4501},
		{`nonsense`, "bad_frame", 4501},
		{`{"t":"hello","token":"dev:alice"}`, "bad_frame", 4501},
		{`{"t":"hello","id":1,"token":"alice","device":"p"}`, "unauthorized", 4500},
		{`{"t":"hello","id":1,"token":"dev:a/b","device":"p"}`, "unauthorized", 4500},
	} {
		d := dial(t, url)
		d.say("%s", c.say)
		if f, err := d.hear(); err != nil || f.str("t") != "err" || f.str("code") != c.code {
			t.Errorf("%s: %v, %v", c.say, f, err)
		}
		if _, err := d.hear(); websocket.CloseStatus(err) != c.status {
			t.Errorf("%s: closed with %v", c.say, err)
		}
	}
	d := dial(t, url)
	if err := d.ws.Write(t.Context(), websocket.MessageBinary, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if f, err := d.hear(); err != nil || f.str("code") != "bad_frame" {
		t.Errorf("binary: %v, %v", f, err)
	}
}

// TestFramesAreRefused: each is answered by an err that says why, and the connection lives on.
func TestFramesAreRefused(t *testing.T) {
	_, url := serve(t, newFake())
	d := hello(t, url)
	put := func(op string) string { return `{"t":"put","id":7,"s":"alice/a","ops":[` + op + `]}` }
	for _, c := range []struct{ say, code string }{
		{`{"t":"put"}`, "bad_frame"},
		{`{"t":`, "bad_frame"},
		{`{"id":3}`, "bad_frame"},
		{`{"t":"hello","id":7,"token":"dev:alice"}`, "bad_frame"},
		{`{"t":"open","id":7,"s":"alice"}`, "bad_frame"},
		{`{"t":"open","id":7,"s":"bob/a"}`, "forbidden"},
		{`{"t":"put","id":7,"s":"bob/a","ops":[]}`, "forbidden"},
		{`{"t":"put","id":7,"s":"alice/a","ops":[]}`, "bad_frame"},
		{`{"t":"put","id":7,"s":"alice/a","regions":-1,"ops":[{"k":"msg","oid":"a","text":""}]}`, "bad_frame"},
		{put(`{"k":"msg","oid":"","text":"x"}`), "bad_frame"},
		{put(`{"k":"msg","oid":"a b","text":"x"}`), "bad_frame"},
		{put(`{"k":"msg","oid":"a"}`), "bad_frame"},
		{put(`{"k":"msg","oid":"a","text":"x","role":"system"}`), "forbidden"},
		{put(`{"k":"msg","oid":"a","text":"x","run":{"models":["a b"]}}`), "bad_frame"},
		{put(`{"k":"msg","oid":"a","text":"x","run":{"busy":"maybe"}}`), "bad_frame"},
		{put(`{"k":"msg","oid":"a","text":"x"},{"k":"msg","oid":"a","text":"x"}`), "bad_frame"},
		{put(`{"k":"erase","oid":"a"}`), "bad_frame"},
		{put(`{"k":"set","oid":"a","key":"k\u0001","v":1}`), "bad_frame"},
		{put(`{"k":"set","oid":"a","key":"k"}`), "bad_frame"},
		{put(`{"k":"run","oid":"a","of":"nothing"}`), "not_found"},
		{put(`{"k":"stop","oid":"a","run":"run-1"}`), "not_found"},
		{put(`{"k":"react","oid":"a","of":"m","v":"+1"}`), "bad_frame"},
		{put(`{"k":"set","oid":"a","key":"k","v":"` + strings.Repeat("x", wire.MaxValue) + `"}`), "too_large"},
		{put(`{"k":"msg","oid":"a","text":"` + strings.Repeat("x", wire.MaxFrame) + `"}`), "too_large"},
	} {
		d.say("%s", c.say)
		f := d.expect("err")
		if f.str("code") != c.code || f.str("msg") == "" {
			t.Errorf("%.120s: %v, want %s", c.say, f, c.code)
		}
	}
	d.say(`{"t":"wave","id":9}` + "\n" + `{"t":"open","id":8,"s":"alice/never"}`)
	f := d.expect("snap")
	if f.str("why") != "new" || len(f["log"].([]any)) != 0 || f["more"] != false {
		t.Errorf("a session never written: %v", f)
	}
}

func TestRegionCannotCommit(t *testing.T) {
	f := newFake()
	f.refuse = fmt.Errorf("no leader: %w", wire.ErrUnavailable)
	_, url := serve(t, f)
	d := hello(t, url)
	d.say(`{"t":"put","id":2,"s":"alice/a","ops":[{"k":"msg","oid":"a","text":"x"}]}`)
	if e := d.expect("err"); e.str("code") != "unavailable" || e["retry"] == nil || e["id"] != 2.0 {
		t.Errorf("%v", e)
	}
}

// TestOkStandsInTheStream: a put's runs come first and do not cover it, then its ok; another connection gets a delta.
func TestOkStandsInTheStream(t *testing.T) {
	_, url := serve(t, newFake())
	a, b := hello(t, url), hello(t, url)
	for _, d := range []*dialed{a, b} {
		d.say(`{"t":"open","id":2,"s":"alice/a"}`)
		d.expect("snap")
	}
	a.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"q","text":"hi","run":{"models":["echo"]}},{"k":"set","oid":"k","key":"title","v":"x"}]}`)
	runs, _ := a.hear()
	ops, _ := runs["ops"].([]any)
	if runs.str("t") != "delta" || len(ops) != 1 || ops[0].(map[string]any)["k"] != "run" {
		t.Fatalf("before the ok: %v", runs)
	}
	ok, _ := a.hear()
	at, _ := ok["at"].([]any)
	if ok.str("t") != "ok" || ok["id"] != 3.0 || len(at) != 2 || ok["safe"] != true || at[1].(map[string]any)["hlc"] == nil {
		t.Fatalf("the ok: %v", ok)
	}
	if runs.str("cur") == ok.str("cur") {
		t.Error("the runs' cur covers the put before its ok")
	}
	if delta := b.expect("delta"); len(delta["ops"].([]any)) != 3 {
		t.Errorf("the other connection: %v", delta)
	}
	c := hello(t, url)
	c.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, runs.str("cur"))
	if delta := c.expect("delta"); len(delta["ops"].([]any)) != 3 {
		t.Errorf("resumed from before the ok: %v", delta)
	}
	c.say(`{"t":"open","id":3,"s":"alice/a","cur":%q}`, ok.str("cur"))
	if delta := c.expect("delta"); len(delta["ops"].([]any)) != 0 {
		t.Errorf("resumed from the ok: %v", delta)
	}
}

func TestSafeFollows(t *testing.T) {
	f := newFake()
	f.reach = wire.Reach{}
	_, url := serve(t, f)
	d := hello(t, url)
	d.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	if ok := d.expect("ok"); ok["safe"] != false || ok["regions"] != 0.0 {
		t.Errorf("%v", ok)
	}
	f.setReach(wire.Reach{Regions: 1, Safe: true})
	if s := d.expect("safe"); s.str("s") != "alice/a" || s["oids"].([]any)[0] != "m" {
		t.Errorf("%v", s)
	}
	f.setReach(wire.Reach{})
	d.say(`{"t":"put","id":4,"s":"alice/a","regions":1,"ops":[{"k":"msg","oid":"n","text":"x"}]}`)
	d.say(`{"t":"page","id":5,"s":"alice/a","before":0,"limit":9}`)
	d.expect("page") // the put has been applied, and its ok waits
	f.setReach(wire.Reach{Regions: 1, Safe: true})
	if ok := d.expect("ok"); ok["regions"] != 1.0 {
		t.Errorf("%v", ok)
	}
}

// TestBehind: a client that has seen more than this region is told so, and told when that is over.
func TestBehind(t *testing.T) {
	f := newFake()
	g, url := serve(t, f)
	shanghai := crdt.NewOrigin("shanghai", 2)
	cur := g.tokens.Load().mint(&position{seen: crdt.Vector{shanghai.ID(): 1}, floor: crdt.Floor{Seq: 41, Stamp: 1 << 40}}, "alice", "alice/a")
	d := hello(t, url)
	d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, cur)
	if delta := d.expect("delta"); delta["behind"] != true {
		t.Fatalf("%v", delta)
	}
	f.mu.Lock()
	if want := uint64(1) << crdt.PartitionOf("alice/a"); f.hastened != want {
		t.Errorf("a client waits for partitions %x, and other regions are asked for %x first", want, f.hastened)
	}
	f.mu.Unlock()
	d.say(`{"t":"put","id":3,"s":"alice/a","ops":[{"k":"msg","oid":"m","text":"x"}]}`)
	if ok := d.expect("ok"); ok["at"].([]any)[0].(map[string]any)["seq"] != 42.0 {
		t.Errorf("a put after what the client has seen: %v", ok)
	}
	f.arrive(&crdt.Op{Kind: crdt.KindMsg, Session: "alice/a", OID: "far", Text: "y", Seq: 41, Stamp: 1 << 40}, shanghai)
	delta := d.expect("delta")
	if delta["behind"] != false || len(delta["ops"].([]any)) != 0 {
		t.Errorf("%v", delta)
	}
}

func TestBadTokensResync(t *testing.T) {
	g, url := serve(t, newFake())
	good := g.tokens.Load().mint(&position{seen: crdt.Vector{1: 2}}, "alice", "alice/a")
	foreign := g.tokens.Load().mint(&position{seen: crdt.Vector{1: 2}}, "bob", "alice/a")
	d := hello(t, url)
	for _, cur := range []string{"x", foreign, good[:len(good)-2], "B" + good[1:], strings.Repeat("A", 5000)} {
		d.say(`{"t":"open","id":2,"s":"alice/a","cur":%q}`, cur)
		if s := d.expect("snap"); s.str("why") != "resync" {
			t.Errorf("%.40s: %v", cur, s)
		}
	}
}

func TestTokens(t *testing.T) {
	tk := tokens{testKeys}
	rapid.Check(t, func(t *rapid.T) {
		p := position{seen: crdt.Vector{}, floor: crdt.Floor{
			Seq: rapid.Uint64Range(0, crdt.MaxSeq).Draw(t, "seq"), Stamp: crdt.Stamp(rapid.Uint64().Draw(t, "stamp")),
		}}
		for range rapid.IntRange(0, 3).Draw(t, "origins") {
			p.seen[crdt.OriginID(rapid.Uint32().Draw(t, "id"))] = rapid.Uint64Range(1, 1<<34).Draw(t, "f")
		}
		cur := tk.mint(&p, "alice", "alice/a")
		if len(cur) > 128 {
			t.Fatalf("%d characters", len(cur))
		}
		got, err := tk.parse(cur, "alice", "alice/a")
		if err != nil || got.floor != p.floor || !got.seen.Covers(p.seen) || !p.seen.Covers(got.seen) {
			t.Fatalf("%v, %v", got, err)
		}
		b := []byte(cur)
		b[rapid.IntRange(0, len(b)-2).Draw(t, "at")] ^= 1
		if _, err := tk.parse(string(b), "alice", "alice/a"); err == nil {
			t.Fatal("a changed token was taken")
		}
		if _, err := tk.parse(cur, "alice", "alice/b"); err == nil {
			t.Fatal("another session's token was taken")
		}
	})
}

// TestTokenKeysRotate: a token signed with the old key is good while the ring holds it.
func TestTokenKeysRotate(t *testing.T) {
	old := tokens{testKeys}
	cur := old.mint(&position{}, "alice", "alice/a")
	fresh := []byte("fresh key fresh key fresh key 32")
	if _, err := (tokens{[][]byte{fresh, testKeys[0]}}).parse(cur, "alice", "alice/a"); err != nil {
		t.Error(err)
	}
	if _, err := (tokens{[][]byte{fresh}}).parse(cur, "alice", "alice/a"); err == nil {
		t.Error("a token of a key that is gone was taken")
	}
}

func TestHS256(t *testing.T) {
	key := []byte("0123456789abcdef")
	now := time.Now()
	mint := func(method jwt.SigningMethod, key any, c jwt.MapClaims) string {
		s, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	exp := now.Add(time.Hour).Unix()
	a := HS256{Key: key}
	id, err := a.Authenticate(mint(jwt.SigningMethodHS256, key, jwt.MapClaims{
		"sub": "alice", "exp": exp, "roam": map[string]any{"sessions": map[string]string{"bob/*": "r", "bob/x": "rw"}},
	}))
	if err != nil || id.User != "alice" || id.Expires.Unix() != exp {
		t.Fatalf("%+v, %v", id, err)
	}
	for session, want := range map[string][2]bool{
		"alice/a": {true, true}, "bob/x": {true, true}, "bob/y": {true, false}, "eve/a": {false, false},
	} {
		if r, w := id.may(session); r != want[0] || w != want[1] {
			t.Errorf("%s: %t %t", session, r, w)
		}
	}
	for name, token := range map[string]string{
		"none":       mint(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"sub": "alice", "exp": exp}),
		"other alg":  mint(jwt.SigningMethodHS512, key, jwt.MapClaims{"sub": "alice", "exp": exp}),
		"other key":  mint(jwt.SigningMethodHS256, []byte("x"), jwt.MapClaims{"sub": "alice", "exp": exp}),
		"expired":    mint(jwt.SigningMethodHS256, key, jwt.MapClaims{"sub": "alice", "exp": now.Add(-time.Hour).Unix()}),
		"no exp":     mint(jwt.SigningMethodHS256, key, jwt.MapClaims{"sub": "alice"}),
		"no subject": mint(jwt.SigningMethodHS256, key, jwt.MapClaims{"exp": exp}),
	} {
		if _, err := a.Authenticate(token); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestSlowClientsAreCutOff: a queue that is full costs its own connection, and says why.
func TestSlowClientsAreCutOff(t *testing.T) {
	g, _ := serve(t, newFake())
	c, err := g.Connect(nil, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer c.End()
	for range queueItems + 100 {
		c.send(item{kind: itemFrame})
	}
	if q := c.take(); len(q) != 1 || q[0].kind != itemEnd || q[0].status != wire.StatusTooSlow {
		t.Errorf("%d items", len(q))
	}
}

func TestLinesAreBounded(t *testing.T) {
	var got []string
	long := strings.Repeat("x", wire.MaxLine+2)
	err := lines(strings.NewReader("a\n\n"+long+"\nb"), func(line []byte, tooLong bool) bool {
		got = append(got, fmt.Sprintf("%s %t", line, tooLong))
		return true
	})
	if err != nil || fmt.Sprint(got) != "[a false  true b false]" {
		t.Errorf("%q, %v", got, err)
	}
	if err := lines(strings.NewReader("a\nb"), func([]byte, bool) bool { return false }); !errors.Is(err, errStop) {
		t.Error(err)
	}
}
