package chat

import (
	"fmt"
	"slices"
	"time"

	"github.com/roamsync/roam/client"
)

// maxNotes bounds the notes that are kept; beyond, the oldest go.
const maxNotes = 200

// page is what there is to show. It is a value of one goroutine, changed by update and add only.
type page struct {
	now      snapshot
	mine     map[string]bool // messages of this process
	notes    []note
	region   string // last that the session was live in
	conn     string
	lost     time.Time // when the session ceased to be live; zero if it is
	moving   time.Time // when a move was asked for that has not come to its end
	err      string
	trouble  string // that was noted
	fatal    string // why the client has ended
	switches bool
}

// note is a line that is not of the log.
type note struct {
	after string // the last entry of the log when it came
	text  string
	bad   bool
}

func newPage() *page { return &page{mine: map[string]bool{}} }

// update takes a snapshot and returns the notes that it gives rise to.
func (p *page) update(s snapshot) []note {
	before := len(p.notes)
	for _, oid := range s.fresh {
		p.mine[oid] = true
	}
	for _, o := range s.Outbox {
		if o.Kind == client.KindMessage {
			p.mine[o.OID] = true
		}
	}
	p.now = s
	p.place(s)
	if why := errText(s.Err); why != p.err {
		if p.err = why; why != "" {
			p.add("the session cannot be opened: "+why, true)
		}
	}
	for _, why := range s.refused {
		p.add(why, true)
	}
	added := slices.Clone(p.notes[before:])
	p.notes = p.notes[max(0, len(p.notes)-maxNotes):]
	return added
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// place notes where the session is live, and how it came there.
func (p *page) place(s snapshot) {
	if !s.moving.IsZero() {
		p.moving = s.moving
	}
	if !s.Live {
		if p.lost.IsZero() {
			p.lost = s.at
		}
		if s.trouble != p.trouble && s.trouble != "moved" {
			p.trouble = s.trouble
			p.add("no connection: "+s.trouble, true)
		}
		return
	}
	since := p.lost
	if !p.moving.IsZero() && (since.IsZero() || p.moving.Before(since)) {
		since = p.moving
	}
	switch {
	case !p.moving.IsZero() && p.conn == s.status.Conn && s.trouble != p.trouble:
		p.moving = time.Time{}
		p.add("still in "+cleanLine(s.Region)+": "+s.trouble, true)
	case p.region == "":
		p.add(fmt.Sprintf("— connected to %s —", cleanLine(s.Region)), false)
	case p.region != s.Region:
		p.add(fmt.Sprintf("— moved %s → %s%s —", cleanLine(p.region), cleanLine(s.Region), took(since, s.at)), false)
	case p.conn != s.status.Conn:
		p.add(fmt.Sprintf("— back in %s%s —", cleanLine(s.Region), took(since, s.at)), false)
	}
	if p.region != s.Region || p.conn != s.status.Conn {
		p.moving = time.Time{}
	}
	p.trouble = s.trouble
	p.region, p.conn, p.lost = s.Region, s.status.Conn, time.Time{}
}

func took(since, now time.Time) string {
	if since.IsZero() {
		return ""
	}
	return " (" + now.Sub(since).Round(time.Millisecond).String() + ")"
}

// add notes something below what the log has.
func (p *page) add(text string, bad bool) {
	n := note{text: clean(text), bad: bad}
	if l := len(p.now.Log); l > 0 {
		n.after = p.now.Log[l-1].OID
	}
	p.notes = append(p.notes, n)
}

// item is an entry of the log, an own message on its way, or a note.
type item struct {
	entry *client.Entry
	mark  string
	mine  bool
	note  *note
}

// items are what there is to show, from the top.
func (p *page) items() []item {
	stages := map[string]client.Stage{}
	for _, o := range p.now.Outbox {
		stages[o.OID] = o.Stage
	}
	at := map[string]int{}
	for i, e := range p.now.Log {
		at[e.OID] = i + 1
	}
	var all []item
	next := 0
	noted := func(upTo int) {
		for ; next < len(p.notes) && at[p.notes[next].after] <= upTo; next++ {
			all = append(all, item{note: &p.notes[next]})
		}
	}
	noted(0)
	for i, e := range p.now.Log {
		all = append(all, item{entry: e, mine: p.mine[e.OID], mark: p.mark(e.OID, stages)})
		noted(i + 1)
	}
	for _, o := range p.now.Outbox {
		if o.Kind == client.KindMessage && at[o.OID] == 0 && !forgotten(p.now.State, o.OID) {
			e := &client.Entry{Kind: client.KindMessage, OID: o.OID, Text: o.Text}
			all = append(all, item{entry: e, mine: true, mark: p.mark(o.OID, stages)})
		}
	}
	return all
}

var marks = map[client.Stage]string{client.Waiting: "○", client.Sent: "·", client.Stored: "✓"}

// mark is how far an own message is; nothing for those of others.
func (p *page) mark(oid string, stages map[string]client.Stage) string {
	stage, under := stages[oid]
	switch {
	case under:
		return marks[stage]
	case p.mine[oid]:
		return "✓✓"
	}
	return ""
}

// state says in a word how the connection is.
func (p *page) state() string {
	s := p.now
	switch {
	case p.fatal != "":
		return "ended"
	case s.Live && !p.moving.IsZero():
		return "moving"
	case s.Live && s.Behind:
		return "behind"
	case s.Live:
		return "live"
	case s.status.Connected:
		return "opening"
	}
	return "connecting"
}

// words is an entry's text and what is to be said about it.
func words(e *client.Entry) string {
	text := clean(e.Text)
	if e.Deleted {
		return "(deleted)"
	}
	if e.Edited {
		text += " (edited)"
	}
	switch {
	case e.Broken:
		text += " (not what the region closed)"
	case e.Status == "failed":
		text += " (failed" + failure(e) + ")"
	case e.Status == "stopped":
		text += " (stopped)"
	}
	return text
}

func failure(e *client.Entry) string {
	if e.Err == "" {
		return ""
	}
	return ": " + cleanLine(e.Err)
}

// who is an entry's author.
func who(e *client.Entry, user, device string) string {
	switch {
	case e.Kind == client.KindAnswer && e.Model != "":
		return cleanLine(e.Model)
	case e.Kind == client.KindAnswer:
		return "answer"
	case e.Device == "":
		return cleanLine(e.User)
	case e.User == user && e.Device == device:
		return cleanLine(e.User)
	}
	return cleanLine(e.User + " (" + e.Device + ")")
}
