package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/roamsync/roam/client"
)

// lineBytes is how much of an answer a line shows as it streams in.
const lineBytes = 56

// screen shows the conversation, a line at a time: when, in which region, on which device, what.
type screen struct {
	start  time.Time
	width  int            // of the longest region's name
	colour map[string]int // region -> ANSI colour; nil: Out is no terminal

	mu  sync.Mutex
	out io.Writer // guarded by mu
}

func newScreen(cfg Config) *screen {
	s := &screen{start: time.Now(), out: cfg.Out}
	if terminal(cfg.Out) {
		s.colour = map[string]int{}
	}
	for i, r := range cfg.Regions {
		s.width = max(s.width, len(r.Name))
		if s.colour != nil {
			s.colour[r.Name] = []int{36, 35, 33, 32, 34}[i%5]
		}
	}
	return s
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (s *screen) paint(code int, text string) string {
	if s.colour == nil || code == 0 {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, text)
}

const (
	bold   = 1
	dim    = 2
	yellow = 33
	green  = 32
	red    = 31
)

func (s *screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.out, line)
}

func (s *screen) title(text string) { s.print("\n" + s.paint(bold, text)) }

// line shows what happened at a device in a region.
func (s *screen) line(region, device, text string) {
	at := fmt.Sprintf("%6d ms ", time.Since(s.start).Milliseconds())
	for i, row := range wrap(text) {
		if i > 0 {
			at = strings.Repeat(" ", 10)
		}
		name := s.paint(s.colour[region], fmt.Sprintf("%-*s │", s.width, region))
		s.print(fmt.Sprintf("%s%s %-6s %s", s.paint(dim, at), name, device, row))
	}
}

// event is a line that stands out.
func (s *screen) event(region, device, text string) { s.line(region, device, s.paint(yellow, text)) }

// wrap breaks a long text at spaces.
func wrap(text string) []string {
	const limit = 92
	var rows []string
	for len(text) > limit {
		row := words(text[:limit])
		rows = append(rows, row)
		text = indent + strings.TrimPrefix(text[len(row):], " ")
	}
	return append(rows, text)
}

// stream shows answers as they come to a device, until ctx ends.
func (s *screen) stream(ctx context.Context, d *device) {
	shown := map[string]int{}
	region := ""
	for st := range d.session.Watch(ctx) {
		if st.Region != "" {
			region = st.Region
		}
		for _, e := range st.Log {
			if e.Kind == client.KindAnswer {
				shown[e.OID] = s.grow(region, d.name, e, shown[e.OID])
			}
		}
	}
}

// grow shows what an answer has gained, in whole words, and returns how much of it was shown.
func (s *screen) grow(region, device string, e *client.Entry, from int) int {
	if from > len(e.Text) { // a new attempt began
		from = 0
	}
	for len(e.Text)-from >= lineBytes {
		row := words(e.Text[from : from+lineBytes])
		s.line(region, device, "◂ "+strings.TrimSpace(row))
		from += len(row)
	}
	if rest := e.Text[from:]; e.Closed() && rest != "" {
		s.line(region, device, "◂ "+strings.TrimSpace(rest)+s.paint(dim, " ■"))
		from = len(e.Text)
	}
	return from
}

// verdict shows the table of counts and what they amount to.
func (s *screen) verdict(r *Report) {
	s.title(fmt.Sprintf("Checked: %d messages, %d answers of %d bytes, the title; by %d holders", r.Messages, r.Answers, r.Bytes, len(r.Holders)))
	s.print(fmt.Sprintf("%-22s %9s %8s %7s %6s %8s %12s", "", "messages", "answers", "bytes", "lost", "doubled", "out of order"))
	for _, c := range r.Holders {
		s.print(fmt.Sprintf("%-22s %9d %8d %7d %6d %8d %12d",
			c.Name, c.Messages, c.Answers, c.Bytes, c.Lost, c.Duplicated, c.Disordered))
	}
	for _, p := range r.Problems {
		s.print(s.paint(red, "  "+p))
	}
	code, order := green, "same order everywhere"
	if !r.OK() {
		code = red
	}
	if r.Disordered > 0 {
		order = fmt.Sprintf("%d out of order", r.Disordered)
	}
	s.print("\n" + s.paint(code, fmt.Sprintf("%d lost, %d duplicated, %s", r.Lost, r.Duplicated, order)))
}
