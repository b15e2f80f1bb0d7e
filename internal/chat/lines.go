package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/muesli/cancelreader"

	"github.com/roamsync/roam/client"
)

const (
	// maxLine bounds a line that is read, in bytes.
	maxLine = 1 << 20
	// maxAhead bounds the lines that are read before they are acted on; beyond, reading waits.
	maxAhead = 64
)

// lines is the line mode.
type lines struct {
	room     *room
	page     *page
	device   string
	history  int
	wait     time.Duration
	out, err io.Writer
	printed  map[string]bool // nil until the session is live
	broken   error           // of out
}

// run reads lines until their end, and waits until all that was sent is stored and answered.
func (l *lines) run(ctx context.Context, in io.Reader) error {
	watching, stop := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		l.room.watch(watching, l.print)
	}()
	err := l.talk(ctx, in)
	stop()
	<-shown
	l.print(l.room.look())
	return errors.Join(err, l.broken)
}

func (l *lines) talk(ctx context.Context, in io.Reader) error {
	if err := l.await(ctx, "to connect", func(st client.State) bool { return st.Live }); err != nil {
		return err
	}
	wrong, err := l.read(ctx, in)
	if err != nil {
		return err
	}
	failed, err := l.settle(ctx)
	switch {
	case err != nil:
		return err
	case failed > 0:
		return fmt.Errorf("answers that failed: %d", failed)
	case wrong > 0:
		return fmt.Errorf("commands that failed: %d", wrong)
	}
	return l.room.refusal()
}

// await waits until the session is as is wanted, or cannot be opened.
func (l *lines) await(ctx context.Context, what string, so func(client.State) bool) error {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	for st := range l.room.session.Watch(ctx) {
		if so(st) {
			return nil
		}
		if st.Err != nil {
			return st.Err
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s took longer than --wait %s", what, l.wait)
	}
	return context.Cause(ctx)
}

// read acts on lines as they come. What a command refuses is told and counted, and the next line is read.
func (l *lines) read(ctx context.Context, in io.Reader) (wrong int, err error) {
	src, err := cancelreader.NewReader(in)
	if err != nil { // a file or the like, which never blocks
		src = plainReader{in}
	}
	ctx, cancel := context.WithCancel(ctx)
	texts, ended := make(chan string, maxAhead), make(chan struct{})
	var scanned error
	go func() {
		defer close(ended)
		defer close(texts)
		scanned = scan(ctx, src, texts)
	}()
	defer func() {
		cancel()
		if src.Cancel() {
			<-ended
		}
		_ = src.Close()
	}()
	for {
		select {
		case text, more := <-texts:
			if !more {
				return wrong, scanned
			}
			if quit, err := l.line(ctx, text); quit {
				return wrong, nil
			} else if err != nil {
				wrong++
				fmt.Fprintln(l.err, clean(err.Error()))
			}
		case <-ctx.Done():
			return wrong, context.Cause(ctx)
		}
	}
}

// plainReader is a reader that cannot be cancelled.
type plainReader struct{ io.Reader }

func (plainReader) Cancel() bool { return false }
func (plainReader) Close() error { return nil }

func scan(ctx context.Context, in io.Reader, texts chan<- string) error {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		select {
		case texts <- s.Text():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than %d bytes", maxLine)
	}
	return s.Err()
}

// line acts on one line. Commands wait until they have come to their end, so that the next line finds it done.
func (l *lines) line(ctx context.Context, text string) (quit bool, err error) {
	if strings.TrimSpace(text) == "" {
		return false, nil
	}
	c, err := parse(text)
	if err != nil || c.name == "quit" {
		return err == nil, err
	}
	if c.name == "again" {
		if _, err := l.settle(ctx); err != nil {
			return false, err
		}
	}
	reply, err := l.room.do(ctx, c)
	if err != nil {
		return false, err
	}
	if reply != "" {
		fmt.Fprintln(l.err, reply)
	}
	switch c.name {
	case "model", "system", "title", "forget":
		err = l.await(ctx, "/"+c.name, func(client.State) bool { return l.room.unstored() == 0 })
	case "move":
		err = l.await(ctx, "/move", func(st client.State) bool { return st.Region == c.arg })
	case "cut":
		err = l.await(ctx, "to come back", func(st client.State) bool { return st.Live })
	}
	return false, err
}

// settle waits until everything put is stored or refused, and everything asked for is answered; failed counts questions
// whose last answer failed.
func (l *lines) settle(ctx context.Context) (failed int, err error) {
	err = l.await(ctx, "what was sent, or its answers,", func(st client.State) (all bool) {
		if l.room.unstored() > 0 {
			return false
		}
		all, failed = l.room.answered(st)
		return all
	})
	return failed, err
}

// print prints what is new in a snapshot: entries of others and complete answers to out, all else to err.
func (l *lines) print(s snapshot) {
	for _, n := range l.page.update(s) {
		fmt.Fprintln(l.err, n.text)
	}
	if !s.Live && l.printed == nil {
		return
	}
	if l.printed == nil {
		l.earlier(s.Log)
	}
	for _, e := range s.Log {
		if !l.printed[e.OID] && (e.Kind != client.KindAnswer || e.Closed()) {
			l.printed[e.OID] = true
			if !l.page.mine[e.OID] {
				l.entry(e)
			}
		}
	}
}

// earlier marks what is not to be printed of the log that was there before: all but the end of it.
func (l *lines) earlier(log []*client.Entry) {
	l.printed = map[string]bool{}
	for _, e := range log[:max(0, len(log)-l.history)] {
		if e.Kind != client.KindAnswer || e.Closed() {
			l.printed[e.OID] = true
		}
	}
}

// entry prints an entry; lines after its first are indented.
func (l *lines) entry(e *client.Entry) {
	text := strings.ReplaceAll(words(e), "\n", "\n  ")
	if _, err := fmt.Fprintf(l.out, "%s: %s\n", who(e, l.page.now.status.User, l.device), text); err != nil && l.broken == nil {
		l.broken = fmt.Errorf("print: %w", err)
	}
}
