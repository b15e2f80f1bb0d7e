package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
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

// notData is what somebody hears who asks a node for what only one that holds data has.
const notData = "it is not the --admin-addr of a node that holds data (an edge does not), or of another version"

// maxRefusal bounds what is read of a refusal.
const maxRefusal = 4 << 10

// ask asks a node that holds data, whose answer may take long. Errors name --admin.
func ask(ctx context.Context, admin, method, path string) (io.ReadCloser, error) {
	if err := checkAddr("--admin", admin); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin %s: %w", admin, err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // no proxy: the node is asked, nobody else
	if err != nil {
		return nil, fmt.Errorf("--admin %s does not answer (is it the --admin-addr of a node that runs?): %w", admin, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		return nil, fmt.Errorf("--admin %s: "+notData, admin)
	}
	words, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	return nil, fmt.Errorf("--admin %s: %s: %s", admin, resp.Status, strings.TrimSpace(string(words)))
}
