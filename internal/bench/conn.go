package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	protocol    = "roam.v1.json"
	readLimit   = 64 << 20
	ioTimeout   = 10 * time.Second
	retryMin    = 20 * time.Millisecond
	retryMax    = time.Second
	backoffMax  = 4 * time.Second
	firstPut    = 10 // ids below are hello's and the like
	maxTail     = 500
	readBackMax = 2 * time.Minute
)

// frame is what is read of a server's frame.
type frame struct {
	T     string `json:"t"`
	ID    int    `json:"id"`
	Cur   string `json:"cur"`
	Code  string `json:"code"`
	Msg   string `json:"msg"`
	Retry int    `json:"retry"` // ms
	Run   string `json:"run"`
	More  bool   `json:"more"`
	Ops   []item `json:"ops"`
	Log   []item `json:"log"`
}

type item struct {
	K     string `json:"k"`
	OID   string `json:"oid"`
	Of    string `json:"of"`
	State string `json:"state"`
	Seq   uint64 `json:"seq"`
	At    string `json:"at"`
}

// device is one client: a connection that comes back when it is lost, and its part of a session's ledger.
type device struct {
	b       *run
	ledger  *ledger
	index   int // in the session
	conn    int // of all
	user    string
	session string
	text    string // of its messages
	ready   func() // called once, when it is first connected

	sending sync.Mutex // orders what is sent
	ws      *websocket.Conn

	// owned by live
	cur  string
	seen uint64 // highest seq
}

// live keeps the device connected until ctx ends. It returns an error if it never was.
func (d *device) live(ctx context.Context) error {
	connected, pause := false, retryMin
	for try := d.conn; ctx.Err() == nil; try++ {
		url := d.b.cfg.URLs[try%len(d.b.cfg.URLs)]
		err := d.once(ctx, url, func() {
			if !connected {
				d.ready()
			} else {
				d.b.count.reconnects.Add(1)
			}
			connected, pause = true, retryMin
		})
		var fatal *refusal
		if errors.As(err, &fatal) {
			return fmt.Errorf("%s: %w", url, err)
		}
		if !connected && time.Since(d.b.ramp) > rampLimit {
			return fmt.Errorf("%s: %w", url, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(pause)):
		}
		pause = min(2*pause, retryMax)
	}
	return nil
}

// refusal is an err for which trying again is of no use.
type refusal struct{ code, msg string }

// Error implements error.
func (r *refusal) Error() string { return r.code + ": " + r.msg }

// once lives through one connection.
func (d *device) once(ctx context.Context, url string, up func()) error {
	ws, err := dial(ctx, url)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	token, err := d.b.cfg.Token(d.user)
	if err != nil {
		return &refusal{"token", err.Error()}
	}
	open := map[string]any{"s": d.session, "tail": maxTail}
	if d.cur != "" {
		open = map[string]any{"s": d.session, "cur": d.cur}
	}
	if err := write(ctx, ws, map[string]any{
		"t": "hello", "id": 1, "token": token, "device": fmt.Sprintf("d%d", d.index), "open": []any{open},
	}); err != nil {
		return err
	}
	opened := false
	defer d.attach(ctx, nil)
	return each(ctx, ws, func(f *frame) error {
		if err := d.take(ctx, ws, f); err != nil {
			return err
		}
		if !opened && (f.T == "snap" || f.T == "delta") {
			opened = true
			up()
			return d.attach(ctx, ws)
		}
		return nil
	})
}

func dial(ctx context.Context, url string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{protocol}})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(readLimit)
	return ws, nil
}

func write(ctx context.Context, ws *websocket.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeLine(ctx, ws, b)
}

func writeLine(ctx context.Context, ws *websocket.Conn, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	return ws.Write(ctx, websocket.MessageText, b)
}

// each gives frames to fn until the connection or fn ends.
func each(ctx context.Context, ws *websocket.Conn, fn func(*frame) error) error {
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			if len(line) == 0 {
				continue
			}
			var f frame
			if err := lenient(line, &f); err != nil {
				return fmt.Errorf("a frame that is none: %q: %w", line, err)
			}
			if err := fn(&f); err != nil {
				return err
			}
		}
	}
}

// lenient decodes a frame; ids that are no numbers are other people's.
func lenient(line []byte, f *frame) error {
	err := json.Unmarshal(line, f)
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return nil
	}
	return err
}

// take does what a client does with a frame.
func (d *device) take(ctx context.Context, ws *websocket.Conn, f *frame) error {
	now := time.Now()
	if f.Cur != "" {
		d.cur = f.Cur
	}
	switch f.T {
	case "ping":
		return writeLine(ctx, ws, []byte(`{"t":"pong"}`))
	case "ok":
		if f.ID >= firstPut {
			d.ledger.ok(ref{d.index, f.ID - firstPut}, now)
		}
	case "tok":
		d.ledger.token(d.index, f.Run, now)
	case "delta", "snap":
		for _, list := range [][]item{f.Ops, f.Log} {
			for i := range list {
				d.seen = max(d.seen, list[i].Seq)
				d.ledger.show(d.index, &list[i], f.T == "snap", now)
			}
		}
	case "err":
		return d.refused(ctx, f)
	}
	return nil
}

func (d *device) refused(ctx context.Context, f *frame) error {
	d.b.count.fail(f.Code)
	d.b.note(f)
	if f.ID < firstPut {
		if f.Code == "unauthorized" || f.Code == "forbidden" || f.Code == "bad_frame" {
			return &refusal{f.Code, f.Msg}
		}
		return fmt.Errorf("%s: %s", f.Code, f.Msg)
	}
	r := ref{d.index, f.ID - firstPut}
	tries := d.ledger.refuse(r, f.Retry > 0)
	if f.Retry > 0 {
		d.b.later(ctx, backoff(time.Duration(f.Retry)*time.Millisecond, tries), func() {
			d.sending.Lock()
			defer d.sending.Unlock()
			d.transmit(ctx, r, true)
		})
	}
	return nil
}

// backoff is how long to wait before an op is sent again: at least what the region asked for, and twice as long each time,
// as clients do that do not mean to keep it down.
func backoff(asked time.Duration, tries int) time.Duration {
	wait := min(asked, backoffMax)
	for range tries - 1 {
		wait = min(2*wait, backoffMax)
	}
	return wait + rand.N(wait+1)
}

// attach makes a connection the one to send on, and sends again what has no answer; nil detaches.
func (d *device) attach(ctx context.Context, ws *websocket.Conn) error {
	d.sending.Lock()
	defer d.sending.Unlock()
	d.ws = ws
	if ws == nil {
		return nil
	}
	for _, r := range d.ledger.unanswered(d.index) {
		if err := d.transmit(ctx, r, true); err != nil {
			return err
		}
	}
	return nil
}

// put sends an op that is due. Without a connection it waits for the next one.
func (d *device) put(ctx context.Context, due time.Duration, k kind) {
	d.sending.Lock()
	defer d.sending.Unlock()
	r := d.ledger.send(d.index, due, k)
	d.b.count.sent.Add(1)
	_ = d.transmit(ctx, r, false) // the reader finds that the connection has ended, and it is sent again
}

// transmit sends an op, if there is a connection. The caller holds sending.
func (d *device) transmit(ctx context.Context, r ref, again bool) error {
	if d.ws == nil {
		return nil
	}
	if again {
		d.b.count.retried.Add(1)
	}
	op := ""
	switch d.ledger.kindOf(r) {
	case kindPut:
		op = `{"k":"msg","oid":"%s","text":"` + d.text + `"}`
	case kindChat:
		op = `{"k":"msg","oid":"%s","text":"` + d.text + `","run":{}}`
	case kindSet:
		op = `{"k":"set","oid":"%s","key":"k","v":"` + d.text + `"}`
	case kindRead:
		op = `{"k":"read","oid":"%s","seq":9007199254740992}` // all there is: regions cap it
	}
	return writeLine(ctx, d.ws, fmt.Appendf(nil, `{"t":"put","id":%d,"s":%q,"ops":[`+op+`]}`, r.n+firstPut, d.session, r.oid()))
}

// text is what messages say: words, so that an echo of it streams.
func text(bytes int) string {
	const words = "nothing is lost and nothing comes twice "
	return strings.Repeat(words, bytes/len(words)+1)[:bytes]
}

// readBack reads a session whole, over a connection of its own.
func (b *run) readBack(ctx context.Context, url string, s *session) ([]item, error) {
	ctx, cancel := context.WithTimeout(ctx, readBackMax)
	defer cancel()
	ws, err := dial(ctx, url)
	if err != nil {
		return nil, err
	}
	defer ws.CloseNow()
	token, err := b.cfg.Token(s.user)
	if err != nil {
		return nil, err
	}
	if err := write(ctx, ws, map[string]any{
		"t": "hello", "id": 1, "token": token, "device": "reader", "open": []any{map[string]any{"s": s.name, "tail": maxTail}},
	}); err != nil {
		return nil, err
	}
	var all []item
	err = each(ctx, ws, func(f *frame) error {
		switch f.T {
		case "err":
			return &refusal{f.Code, f.Msg}
		case "snap", "page":
			all = append(all, f.Log...)
			if !f.More || len(f.Log) == 0 {
				return errWhole
			}
			return write(ctx, ws, map[string]any{"t": "page", "id": 2, "s": s.name, "before": f.Log[0].Seq, "limit": maxTail})
		}
		return nil
	})
	if errors.Is(err, errWhole) {
		err = nil
	}
	return all, err
}

var errWhole = errors.New("that was all of it")
