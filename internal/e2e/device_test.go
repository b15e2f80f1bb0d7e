package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/internal/check"
)

// device is one client. One goroutine uses it: frames are applied while it waits for something.
type device struct {
	user, name, token string
	views             map[string]*view
	conn              *conn
	lastID            int64
	replies           map[int64]*frame // what was answered to which id
	safe              map[string]bool  // oids that are in enough regions
	errs              []*frame         // err frames without an id
	faults            []string
	welcome, move     *frame
	trace             []string      // what was sent and received
	within            time.Duration // bounds every wait
	handshake         time.Duration // bounds the wait for a connection; 0: within
}

// conn is one WebSocket connection.
type conn struct {
	ws     *websocket.Conn
	frames chan *frame
	err    error // why frames is closed
}

// errRefused wraps an err frame.
type errRefused struct{ *frame }

func (e errRefused) Error() string { return fmt.Sprintf("err %s: %s", e.Code, e.Msg) }

// code returns the code of an err frame in err, or "".
func code(err error) string {
	var refused errRefused
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func newDevice(user, name string) *device {
	return &device{user: user, name: name, token: "dev:" + user, views: map[string]*view{},
		replies: map[int64]*frame{}, safe: map[string]bool{}, within: patience}
}

// dial opens a WebSocket without saying anything.
func dial(client string, protocols ...string) (*conn, *http.Response, error) {
	return dialWithin(patience, client, protocols...)
}

func dialWithin(limit time.Duration, client string, protocols ...string) (*conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, "ws://"+client+"/v1/connect", &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		return nil, resp, err
	}
	ws.SetReadLimit(64 << 20)
	c := &conn{ws: ws, frames: make(chan *frame, 4096)}
	go c.read()
	return c, resp, nil
}

// read receives frames until the connection ends.
func (c *conn) read() {
	defer close(c.frames)
	for {
		typ, b, err := c.ws.Read(context.Background())
		if err != nil {
			c.err = err
			return
		}
		if typ != websocket.MessageText {
			c.err = fmt.Errorf("a binary message under roam.v1.json: %q", b)
			return
		}
		frames, err := check.Parse(b)
		for _, f := range frames {
			f.Came = time.Now()
			c.frames <- f
		}
		if err != nil {
			c.err = err
			return
		}
	}
}

func (c *conn) write(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, []byte(text))
}

// next returns the next frame, or why there will be none.
func (c *conn) next(timeout <-chan time.Time) (*frame, error) {
	select {
	case f, ok := <-c.frames:
		if !ok {
			return nil, fmt.Errorf("connection ended: %w", c.err)
		}
		return f, nil
	case <-timeout:
		return nil, errSilent
	}
}

var errSilent = errors.New("nothing came in time")

// connect says hello to a region and opens sessions: those held with their cur, the others from the start.
func (d *device) connect(s *site, sessions ...string) error {
	c, _, err := dialWithin(cmp.Or(d.handshake, d.within), s.client, "roam.v1.json")
	if err != nil {
		return err
	}
	d.conn = c
	d.trace = append(d.trace, "CONNECT "+s.region)
	open := []obj{}
	for _, name := range sessions {
		open = append(open, d.opening(name))
	}
	if err := d.call(obj{"t": "hello", "token": d.token, "device": d.name, "open": open}); err != nil {
		return err
	}
	return d.until("the sessions are open", func() bool {
		for _, name := range sessions {
			if !d.view(name).Opened {
				return false
			}
		}
		return true
	})
}

// opening is what asks for a session.
func (d *device) opening(session string) obj {
	v := d.view(session)
	v.Opening(v.Cur)
	if v.Cur == "" {
		return obj{"s": session, "tail": 500}
	}
	return obj{"s": session, "cur": v.Cur}
}

func (d *device) view(session string) *view {
	if d.views[session] == nil {
		d.views[session] = check.NewView(session)
	}
	return d.views[session]
}

// drop ends the connection without a word; what was not applied by then is lost.
func (d *device) drop() {
	if d.conn != nil {
		d.conn.ws.CloseNow()
		d.conn = nil
	}
}

// send writes a frame with the next id.
func (d *device) send(f obj) (int64, error) {
	d.lastID++
	f["id"] = d.lastID
	b, err := json.Marshal(f)
	if err != nil {
		return 0, err
	}
	d.trace = append(d.trace, "SEND "+string(b))
	return d.lastID, d.conn.write(string(b))
}

// call sends a frame and waits for its answer; an err is an error.
func (d *device) call(f obj) error {
	id, err := d.send(f)
	if err != nil {
		return err
	}
	return d.answered(id)
}

// answered waits for the answer to a frame. What ends the connection may come without the frame's id.
func (d *device) answered(id int64) error {
	before := len(d.errs)
	err := d.until(fmt.Sprintf("frame %d is answered", id), func() bool { return d.replies[id] != nil })
	if err != nil && len(d.errs) > before {
		return errors.Join(errRefused{d.errs[len(d.errs)-1]}, err)
	}
	if err == nil && d.replies[id].T == "err" {
		return errRefused{d.replies[id]}
	}
	return err
}

// put puts ops and waits for the ok.
func (d *device) put(session string, ops ...obj) error {
	id, err := d.sendPut(session, ops...)
	if err != nil {
		return err
	}
	return d.answered(id)
}

// sendPut puts ops and does not wait.
func (d *device) sendPut(session string, ops ...obj) (int64, error) {
	for _, op := range ops {
		b, err := json.Marshal(op)
		if err != nil {
			return 0, err
		}
		it := item{User: d.user, Device: d.name, Role: "user"}
		if err := json.Unmarshal(b, &it); err != nil {
			return 0, err
		}
		if it.OID != "" {
			d.view(session).Own[it.OID] = it
		}
	}
	return d.send(obj{"t": "put", "s": session, "ops": ops})
}

// until applies frames until something is so.
func (d *device) until(what string, so func() bool) error {
	timeout := time.After(d.within)
	for !so() {
		if err := d.step(timeout); err != nil {
			return fmt.Errorf("%s/%s: until %s: %w", d.user, d.name, what, err)
		}
	}
	return nil
}

// listen applies frames for a while.
func (d *device) listen(until <-chan time.Time) error {
	for {
		if err := d.step(until); errors.Is(err, errSilent) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// step applies the next frame.
func (d *device) step(timeout <-chan time.Time) error {
	if d.conn == nil {
		return errors.New("not connected")
	}
	f, err := d.conn.next(timeout)
	if err != nil {
		return err
	}
	return d.apply(f)
}

func (d *device) apply(f *frame) error {
	for _, m := range f.Missing {
		d.faults = append(d.faults, m+": "+string(f.Raw))
	}
	d.trace = append(d.trace, string(f.Raw))
	if f.ID != 0 {
		d.replies[f.ID] = f
	}
	switch f.T {
	case "welcome":
		d.welcome = f
	case "move":
		d.move = f
	case "ping":
		return d.conn.write(`{"t":"pong"}`)
	case "ok":
		for _, p := range f.At {
			d.safe[p.OID] = d.safe[p.OID] || f.Safe != nil && *f.Safe
		}
	case "safe":
		for _, oid := range f.OIDs {
			d.safe[oid] = true
		}
	case "err":
		d.errs = append(d.errs, f)
	}
	if f.S != "" {
		d.view(f.S).Apply(f)
	}
	return nil
}

// found returns all faults that the device and its views noted.
func (d *device) found() []string {
	all := append([]string(nil), d.faults...)
	for _, v := range d.views {
		all = append(all, v.Faults...)
	}
	return all
}

// user returns a device whose faults are errors of the test.
func user(t *testing.T, user, name string) *device {
	t.Helper()
	d := newDevice(user, name)
	t.Cleanup(func() {
		d.drop()
		if t.Failed() || len(d.found()) > 0 {
			d.saveTrace(t)
		}
		for i, f := range d.found() {
			if i == 20 {
				t.Errorf("%s/%s: and %d more", user, name, len(d.found())-i)
				break
			}
			t.Errorf("%s/%s: %s", user, name, f)
		}
	})
	return d
}

// saveTrace keeps what a device sent and received, to find out why a test failed.
func (d *device) saveTrace(t *testing.T) {
	f, err := os.CreateTemp("", "roam-trace-"+d.user+"-"+d.name+"-*")
	if err != nil {
		t.Log(err)
		return
	}
	defer f.Close()
	_, err = f.WriteString(strings.Join(d.trace, "\n") + "\n")
	t.Logf("%s/%s: what it sent and received is in %s (%v)", d.user, d.name, f.Name(), err)
}

// fresh opens a session from the start, on a device of its own, and returns what it was shown.
func fresh(t *testing.T, s *site, u, session string) *view {
	t.Helper()
	d := user(t, u, "fresh")
	must(t, d.connect(s, session))
	v := d.view(session)
	for more := len(v.Entries) >= maxTail; more; { // a snap holds only the last of a long session
		first := uint64(1 << 53)
		for _, e := range v.Entries {
			first = min(first, uint64(e.Seq))
		}
		id, err := d.send(obj{"t": "page", "s": session, "before": first, "limit": maxTail})
		must(t, err)
		must(t, d.answered(id))
		page := d.replies[id]
		for _, it := range page.Log {
			v.Hold(it)
		}
		more = page.More
	}
	return v
}

// maxTail is how many entries a snap or a page has at most.
const maxTail = 500

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func msg(oid, text string) obj { return obj{"k": "msg", "oid": oid, "text": text} }

// ask is a message that asks the default model for an answer.
func ask(oid, text string) obj {
	return obj{"k": "msg", "oid": oid, "text": text, "run": obj{}}
}
