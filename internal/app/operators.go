package app

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// operators answers, besides what every node does, what only one that holds data can.
func (n *node) operators() http.Handler {
	mux := n.handler(n.serveStatus)
	n.reshaping(mux)
	n.evicting(mux)
	n.salvaging(mux)
	mux.HandleFunc("GET "+backupPath, func(w http.ResponseWriter, r *http.Request) {
		n.stream(w, r, "application/octet-stream", n.region.Backup)
	})
	mux.HandleFunc("GET "+exportPath, n.forUser(n.export))
	mux.HandleFunc("POST "+erasePath, func(w http.ResponseWriter, r *http.Request) {
		n.forUser(func(ctx context.Context, r *http.Request, say func(any) error) error {
			return n.erase(ctx, r, func(line any) error { // whoever waits sees how far it is
				return errors.Join(say(line), http.NewResponseController(w).Flush())
			})
		})(w, r)
	})
	return mux
}

const (
	backupPath = "/v1/backup"
	exportPath = "/v1/export"
	erasePath  = "/v1/erase"
)

// stream sends an answer that may be long. One that fails is cut short, so that whoever asked sees that it is not whole. It holds the
// region, and ends when the node does.
func (n *node) stream(w http.ResponseWriter, r *http.Request, kind string, write func(context.Context, io.Writer) error) {
	ctx, done, ok := n.region.Hold(r.Context())
	if !ok {
		http.Error(w, "this node is stopping", http.StatusServiceUnavailable)
		return
	}
	defer done()
	// Somebody who does not read must not keep the node from ending.
	defer context.AfterFunc(ctx, func() { http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)) })()
	w.Header().Set("Content-Type", kind)
	out := &counted{w: w}
	err := write(ctx, out)
	switch {
	case err == nil:
	case out.n == 0:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		n.log.Warn("an operator's answer was cut short", "path", r.URL.Path, "after_bytes", out.n, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
