package chat

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/roamsync/roam/client"
)

const (
	// minWidth is the narrowest screen that is drawn for; a terminal cuts what is beyond its own.
	minWidth = 10
	// maxDrawn bounds the drawn entries that are kept; beyond, all are drawn anew.
	maxDrawn = 4096
)

var (
	headStyle   = lipgloss.NewStyle().Bold(true).Reverse(true)
	ownStyle    = lipgloss.NewStyle().Foreground(lipgloss.Cyan).Bold(true)
	otherStyle  = lipgloss.NewStyle().Foreground(lipgloss.Green).Bold(true)
	answerStyle = lipgloss.NewStyle().Foreground(lipgloss.Magenta).Bold(true)
	markStyle   = lipgloss.NewStyle().Faint(true)
	noteStyle   = lipgloss.NewStyle().Faint(true)
	badStyle    = lipgloss.NewStyle().Foreground(lipgloss.Red)
)

// view draws pages. It keeps what it has drawn, since most of it is the same the next time.
type view struct {
	session, user, device string
	width                 int
	drawn                 map[*client.Entry]drawing
}

type drawing struct {
	mark  string
	lines []string
}

// resize forgets what was drawn for another width.
func (v *view) resize(width int) { v.width, v.drawn = max(width, minWidth), nil }

// header is the line at the top.
func (v *view) header(p *page) string {
	parts := []string{v.session, "as " + v.as(p)}
	if region := p.now.Region; region != "" {
		parts = append(parts, cleanLine(region))
	} else if region := p.now.status.Region; region != "" {
		parts = append(parts, "→ "+cleanLine(region))
	}
	parts = append(parts, p.state())
	if p.now.trip > 0 {
		parts = append(parts, p.now.trip.String())
	}
	if n := len(p.now.Outbox); n > 0 {
		parts = append(parts, fmt.Sprintf("%d not safe yet", n))
	}
	text := ansi.Truncate(" "+strings.Join(parts, " · "), v.width, "…")
	return headStyle.Render(text + strings.Repeat(" ", max(0, v.width-ansi.StringWidth(text))))
}

func (v *view) as(p *page) string {
	if user := p.now.status.User; user != "" {
		v.user = user
	}
	return cleanLine(v.user)
}

// body is height lines of the log, scrolled up by so many lines, and by how many it can be.
func (v *view) body(p *page, height, scroll int) (lines []string, scrolled int) {
	var up [][]string // from the bottom
	n := 0
	items := p.items()
	for i := len(items) - 1; i >= 0 && n < height+scroll; i-- {
		l := v.item(items[i])
		up, n = append(up, l), n+len(l)
	}
	for i := len(up) - 1; i >= 0; i-- {
		lines = append(lines, up[i]...)
	}
	scroll = min(scroll, max(0, n-height))
	lines = lines[max(0, n-height-scroll) : n-scroll]
	for len(lines) < height {
		lines = append([]string{""}, lines...)
	}
	return lines, scroll
}

func (v *view) item(it item) []string {
	if it.note != nil {
		style := noteStyle
		if it.note.bad {
			style = badStyle
		}
		return v.block("", it.note.text, style)
	}
	if d, ok := v.drawn[it.entry]; ok && d.mark == it.mark {
		return d.lines
	}
	lines := v.entry(it)
	if v.drawn == nil || len(v.drawn) >= maxDrawn {
		v.drawn = map[*client.Entry]drawing{}
	}
	v.drawn[it.entry] = drawing{it.mark, lines}
	return lines
}

func (v *view) entry(it item) []string {
	e := it.entry
	switch {
	case e.Kind == client.KindAnswer:
		text := words(e)
		if !e.Closed() {
			text += "▍"
		}
		return v.block(answerStyle.Render(who(e, v.user, v.device)), text, lipgloss.NewStyle())
	case it.mine:
		return v.block(ownStyle.Render("you")+markStyle.Render(" "+it.mark), words(e), lipgloss.NewStyle())
	}
	return v.block(otherStyle.Render(who(e, v.user, v.device)), words(e), lipgloss.NewStyle())
}

// block wraps a text by what it takes on the screen, below its label.
func (v *view) block(label, text string, style lipgloss.Style) (lines []string) {
	indent := ""
	if label != "" {
		lines, indent = []string{ansi.Truncate(label, v.width, "…")}, "  "
	}
	for _, line := range strings.Split(ansi.Wrap(text, v.width-len(indent), ""), "\n") {
		lines = append(lines, indent+style.Render(line))
	}
	return lines
}
