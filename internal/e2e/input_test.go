package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestBadFrames sends what no client should, each case on one connection that must live on.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	const session = "hugo/bad"
	d := user(t, "hugo", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.put(session, msg("taken", "first")))
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	put := func(ops string) string { return `{"t":"put","id":ID,"s":"hugo/bad","ops":` + ops + `}` }
	long := strings.Repeat("x", 300)
	cases := []struct{ name, frame, code string }{
		{"put without id", `{"t":"put","s":"hugo/bad","ops":[{"k":"msg","oid":"a","text":"x"}]}`, "bad_frame"},
		{"put without s", `{"t":"put","id":ID,"ops":[{"k":"msg","oid":"a","text":"x"}]}`, "bad_frame"},
		{"put without ops", `{"t":"put","id":ID,"s":"hugo/bad"}`, "bad_frame"},
		{"put of no op", put(`[]`), "bad_frame"},
		{"ops is no list", put(`{"k":"msg"}`), "bad_frame"},
		{"ops far too deep", put(deep), "bad_frame"},
		{"op without oid", put(`[{"k":"msg","text":"x"}]`), "bad_frame"},
		{"op without kind", put(`[{"oid":"a","text":"x"}]`), "bad_frame"},
		{"op of unknown kind", put(`[{"k":"wave","oid":"a"}]`), "bad_frame"},
		{"oid with a space", put(`[{"k":"msg","oid":"a b","text":"x"}]`), "bad_frame"},
		{"oid too long", put(`[{"k":"msg","oid":"` + long + `","text":"x"}]`), "bad_frame"},
		{"text is a number", put(`[{"k":"msg","oid":"a","text":7}]`), "bad_frame"},
		{"oid twice in a put", put(`[{"k":"msg","oid":"a","text":"x"},{"k":"msg","oid":"a","text":"x"}]`), "bad_frame"},
		{"oid taken by other content", put(`[{"k":"msg","oid":"b","text":"x"},{"k":"msg","oid":"taken","text":"second"}]`), "conflict"},
		{"run of an unknown message", put(`[{"k":"run","oid":"a","of":"nobody"}]`), "not_found"},
		{"message of the assistant", put(`[{"k":"msg","oid":"a","text":"x","role":"assistant"}]`), "forbidden"},
		{"session without owner", `{"t":"open","id":ID,"s":"hugo"}`, "bad_frame"},
		{"session with a slash too many", `{"t":"open","id":ID,"s":"hugo/a/b"}`, "bad_frame"},
		{"somebody else's session", `{"t":"open","id":ID,"s":"ida/private"}`, "forbidden"},
		{"put to somebody else's session", `{"t":"put","id":ID,"s":"ida/private","ops":[{"k":"msg","oid":"a","text":"x"}]}`, "forbidden"},
		{"page without s", `{"t":"page","id":ID,"before":5,"limit":5}`, "bad_frame"},
		{"id is a word", `{"t":"open","id":"one","s":"hugo/bad"}`, "bad_frame"},
	}
	for _, c := range cases {
		d.lastID++
		f, err := d.errFor(strings.ReplaceAll(c.frame, "ID", fmt.Sprint(d.lastID)), d.lastID)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if f.Code != c.code || f.Msg == "" {
			t.Errorf("%s: answered by %s; want code %s and words", c.name, f.Raw, c.code)
		}
	}
	must(t, d.put(session, msg("alive", "the connection lives")))
	if n := len(fresh(t, beijing, "hugo", session).Entries); n != 2 {
		t.Errorf("%d entries after refused puts, want the 2 that were accepted", n)
	}
}

// errFor sends a line and returns the err that answers it.
func (d *device) errFor(line string, id int64) (*frame, error) {
	before := len(d.errs)
	if err := d.conn.write(line); err != nil {
		return nil, err
	}
	err := d.until("an err came", func() bool { return len(d.errs) > before || d.replies[id] != nil })
	if err != nil {
		return nil, err
	}
	if r := d.replies[id]; r != nil && r.T != "err" {
		return nil, fmt.Errorf("accepted: %s", r.Raw)
	}
	return d.errs[len(d.errs)-1], nil
}

// TestNotJSON: an err comes first; after it the server may close with 4501 or go on.
func TestNotJSON(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	for _, line := range []string{`{"t":`, `nonsense`, `[]`, `7`, `{"t":"put"}}`, "\x00", `{"t":7}`} {
		d := user(t, "hugo", "phone")
		must(t, d.connect(beijing))
		f, err := d.errFor(line, -1)
		must(t, err)
		if f.Code != "bad_frame" {
			t.Errorf("%q is answered by %s", line, f.Raw)
		}
		if err := d.put("hugo/json", msg("still-here", "x")); err != nil && websocket.CloseStatus(err) != 4501 {
			t.Errorf("after %q: %v", line, err)
		}
	}
}

func TestUnknownIsIgnored(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	const session = "ida/unknown"
	d := user(t, "ida", "phone")
	must(t, d.connect(beijing, session))
	must(t, d.conn.write(`{"t":"wave","id":99,"s":"ida/unknown"}`))
	must(t, d.conn.write(`{"t":"put","id":100,"s":"ida/unknown","colour":"red","ext":{"z":[1]},"ops":[`+
		`{"k":"msg","oid":"m1","text":"x","size":4,"ext":{"mood":{"deep":1}}}]}`+"\n"+`{"t":"pong"}`+"\n"))
	must(t, d.answered(100))
	if len(d.errs) > 0 || d.replies[99] != nil {
		t.Errorf("an unknown frame was answered: %v", d.errs)
	}
	e := fresh(t, beijing, "ida", session).Entries["m1"]
	var ext struct{ Mood struct{ Deep int } }
	if e == nil || json.Unmarshal(e.Ext, &ext) != nil || ext.Mood.Deep != 1 {
		t.Errorf("the ext of a message was not kept: %+v", e)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	const session = "jan/large"
	d := user(t, "jan", "phone")
	must(t, d.connect(beijing, session))
	limits := d.welcome.Max
	if limits.Frame < 1000 || limits.Ops < 1 || limits.Rate < 1 {
		t.Fatalf("welcome tells the limits %+v", limits)
	}
	for i, size := range []int{limits.Frame + 1, 4 * limits.Frame} {
		f, err := d.errFor(fmt.Sprintf(`{"t":"put","id":%d,"s":"jan/large","ops":[{"k":"msg","oid":"big","text":"%s"}]}`,
			900+i, strings.Repeat("x", size)), int64(900+i))
		must(t, err)
		if f.Code != "too_large" {
			t.Errorf("a frame over the limit is answered by %s", f.Raw)
		}
		must(t, d.put(session, msg(fmt.Sprintf("alive%d", i), "the connection lives")))
	}
	var many []obj
	for i := range limits.Ops + 1 {
		many = append(many, msg(fmt.Sprintf("o%d", i), "x"))
	}
	if err := d.put(session, many...); code(err) != "too_large" {
		t.Errorf("%d ops in a put: %v", len(many), err)
	}
	must(t, d.put(session, msg("last", "the connection lives")))
	if n := len(fresh(t, beijing, "jan", session).Entries); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
}

func TestUnknownSessionIsEmptyAndNew(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	d := user(t, "kim", "phone")
	must(t, d.connect(beijing))
	for _, f := range []obj{{"t": "open", "s": "kim/nothing"}, {"t": "open", "s": "kim/nothing", "tail": 3}} {
		must(t, d.call(f))
		snap := d.replies[d.lastID]
		if snap.T != "snap" || snap.Why != "new" || len(snap.Log) > 0 || len(snap.Map) > 0 || snap.More || snap.Cur == "" {
			t.Errorf("an unknown session opens as %s", snap.Raw)
		}
	}
}

func TestBadCurIsNoError(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	d := user(t, "lena", "phone")
	must(t, d.connect(beijing, "lena/a", "lena/b"))
	must(t, d.put("lena/a", msg("m1", "x")))
	must(t, d.put("lena/b", msg("m1", "y")))
	other := user(t, "mia", "phone")
	must(t, other.connect(beijing, "mia/a"))
	cur := d.view("lena/a").Cur
	flipped := []byte(cur)
	flipped[len(flipped)/2] ^= 1
	for _, bad := range []string{"x", "!!!", cur[:len(cur)-2], cur + "AA", string(flipped),
		d.view("lena/b").Cur, other.view("mia/a").Cur, strings.Repeat("A", 4000)} {
		must(t, d.call(obj{"t": "open", "s": "lena/a", "cur": bad}))
		snap := d.replies[d.lastID]
		if snap.T != "snap" || snap.Why != "resync" || len(snap.Log) != 1 {
			t.Errorf("open with the cur %.40q: %s", bad, snap.Raw)
		}
	}
	must(t, d.call(obj{"t": "open", "s": "lena/a", "cur": cur}))
	if f := d.replies[d.lastID]; f.T != "delta" || len(f.Ops) > 0 {
		t.Errorf("open with a good cur and nothing new: %s", f.Raw)
	}
	if len(cur) > 128 {
		t.Errorf("a cur of %d characters; 128 are allowed", len(cur))
	}
	_ = shanghai
}

func TestPages(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	const session = "nora/pages"
	d := user(t, "nora", "phone")
	must(t, d.connect(beijing, session))
	for i := range 30 {
		must(t, d.put(session, msg(fmt.Sprintf("m%02d", i), "x")))
	}
	must(t, d.call(obj{"t": "page", "s": session, "before": 21, "limit": 8}))
	page := d.replies[d.lastID]
	if page.T != "page" || len(page.Log) != 8 || page.Log[0].Seq != 13 || page.Log[7].Seq != 20 || !page.More {
		t.Errorf("8 before 21: %s", page.Raw)
	}
	must(t, d.call(obj{"t": "page", "s": session, "before": 4, "limit": 8}))
	page = d.replies[d.lastID]
	if len(page.Log) != 3 || page.More {
		t.Errorf("8 before 4: %s", page.Raw)
	}
	late := user(t, "nora", "late")
	must(t, late.connect(beijing))
	must(t, late.call(obj{"t": "open", "s": session, "tail": 5}))
	if snap := late.replies[late.lastID]; len(snap.Log) != 5 || !snap.More || snap.Log[4].OID != "m29" {
		t.Errorf("the last 5: %s", snap.Raw)
	}
}

// TestCloseAndStop: after close nothing more comes; stop ends an answer and keeps what came.
func TestCloseAndStop(t *testing.T) {
	t.Parallel()
	beijing, shanghai := sharedSites(t)
	session := unique("otto/stop")
	d, far := user(t, "otto", "phone"), user(t, "otto", "laptop")
	must(t, d.connect(beijing, session))
	must(t, far.connect(shanghai, session))
	text := words(400)
	must(t, d.put(session, ask("q", text)))
	must(t, d.answer(session, "q", 50))
	must(t, d.put(session, obj{"k": "stop", "oid": "s1"}))
	must(t, d.finished(session, "q"))
	run := d.view(session).Answers("q")[0]
	if run.State != "stopped" || run.Fin != "stopped" || !strings.HasPrefix(text, run.Shown) || len(run.Shown) < 50 || len(run.Shown) == len(text) {
		t.Errorf("the stopped answer is %s, fin %s, with %d of %d bytes", run.State, run.Fin, len(run.Shown), len(text))
	}
	must(t, far.finished(session, "q"))
	agree(t, session, func(v *view) bool { return v.Answered("q") }, d, far)
	must(t, far.call(obj{"t": "close", "s": session}))
	must(t, d.put(session, msg("after", "x")))
	must(t, far.listen(time.After(300*time.Millisecond)))
	if far.view(session).Entries["after"] != nil {
		t.Error("a closed session still comes")
	}
	must(t, far.connectAgain(session))
	must(t, far.until("it is there", func() bool { return far.view(session).Entries["after"] != nil }))
}

// connectAgain opens a session on the connection that there is.
func (d *device) connectAgain(session string) error {
	f := d.opening(session)
	f["t"] = "open"
	return d.call(f)
}

// TestHello: what does not begin as the protocol says ends as it says.
func TestHello(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	cases := []struct {
		name, first, code string
		status            websocket.StatusCode
	}{
		{"put first", `{"t":"put","id":1,"s":"anna/x","ops":[]}`, "bad_frame", 4501},
		{"not JSON first", `hello`, "bad_frame", 4501},
		{"wrong token", `{"t":"hello","id":1,"token":"dave","device":"d"}`, "unauthorized", 4500},
		{"no token", `{"t":"hello","id":1,"device":"d"}`, "unauthorized", 4500},
		{"empty name", `{"t":"hello","id":1,"token":"dev:","device":"d"}`, "unauthorized", 4500},
		{"a name that is none", `{"t":"hello","id":1,"token":"dev:a/b","device":"d"}`, "unauthorized", 4500},
		{"nothing", "", "", 4004},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, _, err := dial(beijing.client, "roam.v1.json")
			must(t, err)
			if c.first != "" {
				must(t, conn.write(c.first))
			}
			last, err := conn.drain()
			if websocket.CloseStatus(err) != c.status {
				t.Errorf("closed with %v, want %d", err, c.status)
			}
			if last == nil || last.T != "err" || c.code != "" && last.Code != c.code {
				t.Errorf("the last frame was %+v, want err %s", last, c.code)
			}
		})
	}
}

// drain reads to the end and returns the last frame and why it ended.
func (c *conn) drain() (*frame, error) {
	var last *frame
	timeout := time.After(patience)
	for {
		f, err := c.next(timeout)
		if err != nil {
			return last, err
		}
		last = f
	}
}

func TestBinaryUnderJSON(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	d := user(t, "pia", "phone")
	must(t, d.connect(beijing))
	must(t, d.conn.ws.Write(t.Context(), websocket.MessageBinary, []byte(`{"t":"pong"}`)))
	last, err := d.conn.drain()
	if websocket.CloseStatus(err) != 4501 || last == nil || last.T != "err" {
		t.Errorf("a binary message ended in %v after %+v", err, last)
	}
}

func TestSubprotocol(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	for _, offered := range [][]string{nil, {"chat.v7"}} {
		_, resp, err := dial(beijing.client, offered...)
		if err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
			t.Fatalf("offering %q: %v, %v", offered, resp, err)
		}
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), "roam.v1.json") {
			t.Errorf("offering %q: the body does not name roam.v1.json: %s", offered, body)
		}
	}
	c, resp, err := dial(beijing.client, "chat.v7", "roam.v1.json")
	must(t, err)
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "roam.v1.json" {
		t.Errorf("of two the server chose %q", got)
	}
	c.ws.CloseNow()
}

// TestForbiddenInHello: the others of a hello's sessions are opened all the same.
func TestForbiddenInHello(t *testing.T) {
	t.Parallel()
	beijing, _ := sharedSites(t)
	d := user(t, "quinn", "phone")
	c, _, err := dial(beijing.client, "roam.v1.json")
	must(t, err)
	d.conn = c
	must(t, d.call(obj{"t": "hello", "token": d.token, "device": "phone",
		"open": []obj{{"s": "rosa/private"}, {"s": "quinn/own"}}}))
	must(t, d.until("both are answered", func() bool {
		return d.view("quinn/own").Opened && len(d.errs) == 1
	}))
	if e := d.errs[0]; e.Code != "forbidden" || e.S != "rosa/private" || d.view("rosa/private").Opened {
		t.Errorf("somebody else's session: %s", e.Raw)
	}
	if err := d.connectAgain("rosa/private"); code(err) != "forbidden" {
		t.Errorf("open: %v", err)
	}
	if errors.Is(d.put("quinn/own", msg("m1", "x")), errSilent) {
		t.Error("the connection does not live on")
	}
}
