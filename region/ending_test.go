package region

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// deaf is a stream layer on which nothing comes.
type deaf struct {
	raft.StreamLayer // nil: nothing else is asked for
	closed           chan struct{}
	why              error // of an Accept that has failed
}

func (d *deaf) Accept() (net.Conn, error) {
	<-d.closed
	return nil, d.why
}

func (d *deaf) Close() error   { return nil }
func (d *deaf) Addr() net.Addr { return &net.TCPAddr{} }

// TestEndInOrderIsNoError: that the port of a node that stops is closed before Raft ends is not logged. That it cannot accept is.
func TestEndInOrderIsNoError(t *testing.T) {
	for why, logged := range map[error]bool{net.ErrClosed: false, errors.New("too many open files"): true} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			r := &Region{stopping: context.Background(), cfg: Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
			d := &deaf{closed: make(chan struct{}), why: why}
			tr := (&group{r: r}).network(d)
			close(d.closed)
			time.Sleep(time.Second) // in fake time
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
			synctest.Wait() // it has ended: else the bubble does not
			if strings.Contains(log.String(), "failed to accept") != logged {
				t.Errorf("%v: it logs %q", why, log.String())
			}
		})
	}
}
