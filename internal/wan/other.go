package wan

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/internal/check"
)

// other is a client that speaks the protocol by hand: it stays where it is, and asks for one thing after the other.
type other struct {
	ws *websocket.Conn
	n  int // messages that were put
}

func newOther(ctx context.Context, n *node, name, token string) (*other, error) {
	ws, err := webSocket(ctx, n.dial, n.url())
	if err != nil {
		return nil, err
	}
	o := &other{ws: ws}
	if err := o.write(ctx, map[string]any{"t": "hello", "id": 1, "token": token, "device": name}); err != nil {
		ws.CloseNow()
		return nil, err
	}
	if _, err := o.await(ctx, 1); err != nil {
		ws.CloseNow()
		return nil, err
	}
	return o, nil
}

func (o *other) write(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return o.ws.Write(ctx, websocket.MessageText, b)
}

// refusal is an err frame.
type refusal struct {
	code, msg string
	retry     time.Duration // 0: it is of no use
}

// Error implements error.
func (r *refusal) Error() string { return r.code + ": " + r.msg }

// await reads until the answer with an id comes.
func (o *other) await(ctx context.Context, id int) (*check.Frame, error) {
	for {
		_, b, err := o.ws.Read(ctx)
		if err != nil {
			return nil, err
		}
		frames, err := check.Parse(b)
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			switch {
			case f.T == "ping":
				err = o.write(ctx, map[string]any{"t": "pong"})
			case f.T == "err":
				r := &refusal{code: f.Code, msg: f.Msg}
				if f.Retry != nil {
					r.retry = time.Duration(*f.Retry) * time.Millisecond
				}
				err = r
			case f.ID == int64(id):
				return f, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
}

// put puts messages, which are stored when it returns the oid of the last.
func (o *other) put(ctx context.Context, session, name string, texts []string) (last string, err error) {
	var ops []map[string]any
	for _, text := range texts {
		o.n++
		last = fmt.Sprintf("%s-%d", name, o.n)
		ops = append(ops, map[string]any{"k": "msg", "oid": last, "text": text})
	}
	if err := o.write(ctx, map[string]any{"t": "put", "id": o.n + 1, "s": session, "ops": ops}); err != nil {
		return "", err
	}
	_, err = o.await(ctx, o.n+1)
	return last, err
}
