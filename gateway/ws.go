package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/wire"
)

// party is who a client talks to over a WebSocket: a Conn of this node, or one of another node.
type party interface {
	// line takes a frame, and reports whether to read on. It is the reader's.
	line(frame []byte, tooLong bool) (more bool)
	// Work writes what there is to write; an error is the end. It and beat are the writer's.
	Work() error
	// beat is called when nothing was written for long.
	beat()
	// end closes the connection, after all that is to be written; nil: the client is gone.
	end(why *wire.Error, status wire.Status)
}

// webSocket is the owner of a party whose client comes by WebSocket.
type webSocket struct {
	party party
	ws    *websocket.Conn
	late  *time.Timer // closes the connection when a message takes too long to write
	wake  chan struct{}
}

func newSocket() *webSocket { return &webSocket{wake: make(chan struct{}, 1)} }

// signal says that there is something to write.
func (w *webSocket) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// serve drives a connection until it has nothing more to read or to write.
func (w *webSocket) serve(ctx context.Context, p party, ws *websocket.Conn) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w.party, w.ws, w.late = p, ws, time.AfterFunc(writeTimeout, func() { ws.CloseNow() })
	w.late.Stop()
	// Reads and writes end with the connection: a context for each of them would cost a tenth of all that is allocated.
	defer context.AfterFunc(ctx, func() { ws.CloseNow() })()
	var writing sync.WaitGroup
	writing.Go(func() {
		defer stop()
		w.writeLoop(ctx)
	})
	w.readLoop()
	p.end(nil, 0) // the writer may have ended already
	writing.Wait()
	ws.CloseNow()
}

// Write implements Transport.
func (w *webSocket) Write(message []byte) error {
	w.late.Reset(writeTimeout)
	defer w.late.Stop()
	return w.ws.Write(context.Background(), websocket.MessageText, message)
}

// Close implements Transport.
func (w *webSocket) Close(status wire.Status, reason string) {
	w.ws.Close(websocket.StatusCode(status), reason)
}

// closeReason is as much of a reason as fits a close frame: 123 bytes, of whole characters. With more than that the frame would bear another status, and half a
// character would end the stream of all clients of an edge.
func closeReason(why string) string {
	const most = 123
	why = strings.ToValidUTF8(why, "\ufffd")
	if len(why) <= most {
		return why
	}
	end := most
	for !utf8.RuneStart(why[end]) {
		end--
	}
	return why[:end]
}

// writeLoop sends what is queued until the connection ends. It pings when there has been nothing to send for long.
func (w *webSocket) writeLoop(ctx context.Context) {
	idle := time.NewTicker(pingEvery)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			w.party.beat()
			continue
		case <-w.wake:
		}
		if w.party.Work() != nil {
			return
		}
		idle.Reset(pingEvery)
	}
}

// maxMessage bounds a WebSocket message, of several frames or of one that is too large and skipped.
const maxMessage = 8 << 20

// readLoop takes frames until the connection ends or is ended.
func (w *webSocket) readLoop() {
	w.ws.SetReadLimit(maxMessage)
	silent := time.AfterFunc(helloTimeout, func() {
		w.party.end(wire.Errorf(wire.BadFrame, "silent: hello is due within %s, then a frame every %s (answer ping with pong)",
			helloTimeout, silentAfter), wire.StatusSilent)
	})
	defer silent.Stop()
	for {
		typ, r, err := w.ws.Reader(context.Background())
		if err != nil {
			return
		}
		if typ != websocket.MessageText {
			w.party.end(wire.Errorf(wire.BadFrame, "%s is text messages", Subprotocol), wire.StatusBadFrames)
			return
		}
		err = lines(r, func(line []byte, tooLong bool) bool {
			more := w.party.line(line, tooLong)
			if more { // hello was taken
				silent.Reset(silentAfter)
			}
			return more
		})
		if err != nil {
			return
		}
	}
}

var errStop = errors.New("stop reading")

// readers are for messages that are being read: an idle connection holds none.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

// lines splits a message into frames. One that is over the limit is skipped, and reported without its bytes. What visit
// is given is valid until it returns.
func lines(r io.Reader, visit func(line []byte, tooLong bool) bool) error {
	br := readers.Get().(*bufio.Reader)
	br.Reset(r)
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	var long []byte // a frame that does not fit the reader, so far
	tooLong := false
	for {
		part, err := br.ReadSlice('\n')
		full, frame := errors.Is(err, bufio.ErrBufferFull), part
		if full || len(long) > 0 || tooLong {
			if len(long)+len(part) > wire.MaxLine+1 {
				long, tooLong = long[:0], true
			} else if !tooLong {
				long = append(long, part...)
			}
			frame = long
		}
		if full {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if trimmed := bytes.TrimSpace(frame); len(trimmed) > 0 || tooLong {
			if !visit(trimmed, tooLong) {
				return errStop
			}
		}
		if err != nil {
			return nil
		}
		long, tooLong = long[:0], false
	}
}
