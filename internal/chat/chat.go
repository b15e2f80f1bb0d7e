package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/charmbracelet/x/term"
	"golang.org/x/sync/errgroup"
)

// Run is `roam chat`. It ends when the user leaves or ctx ends; without a terminal, when the lines end and all that was
// sent is stored and answered.
func Run(ctx context.Context, o Options, in io.Reader, out, errOut io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	r, err := newRoom(&o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.client.Run(ctx) })
	g.Go(func() error {
		defer stop()
		if terminal(in) && terminal(out) {
			return fullScreen(ctx, r, &o, in, out)
		}
		l := &lines{room: r, page: newPage(), device: o.Device, history: o.History, wait: o.Wait, out: out, err: errOut}
		return l.run(ctx, in)
	})
	err = g.Wait()
	r.leftOver(errOut)
	return err
}

func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// leftOver tells of ops that are not safe, or not even stored.
func (r *room) leftOver(w io.Writer) {
	n, unstored := len(r.session.State().Outbox), r.unstored()
	switch {
	case n == 0:
	case r.outbox != nil:
		fmt.Fprintf(w, "%d not safe yet, %d of them not stored: kept in %s for the next time\n", n, unstored, r.outbox.path)
	case unstored > 0:
		fmt.Fprintf(w, "%d not stored: lost, since there is no outbox\n", unstored)
	}
}
