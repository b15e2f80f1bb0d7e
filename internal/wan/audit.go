package wan

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/internal/check"
)

// Findings is what the checkers found. All but Puts and Acked must be 0.
type Findings struct {
	Puts, Acked int
	Unanswered  int // puts that were never acknowledged
	Lost        int // acknowledged, and not in some region
	Doubled     int // twice in some region
	Unknown     int // in some region, and never put
	Disordered  int // before what its device was shown when it put it, or an earlier one of that, or in another order than in the first region
	Unseen      int // acknowledged, and not shown to a device of another region
	Unended     int // questions without a whole answer
	Misheard    int // answers that are not one, whole and with the sum that they name
	Broken      int // breaches of the protocol towards a device
	Notes       []string
}

const maxNotes = 8

func (f *Findings) note(format string, args ...any) {
	if len(f.Notes) < maxNotes {
		f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
	}
}

// Wrong says what must not be; the empty string is nothing.
func (f *Findings) Wrong() string {
	var wrong []string
	for _, w := range []struct {
		n    int
		what string
	}{
		{f.Unanswered, "never acknowledged"}, {f.Lost, "lost"}, {f.Doubled, "twice"}, {f.Unknown, "unknown"},
		{f.Disordered, "out of order"}, {f.Unseen, "not shown"},
		{f.Unended, "without an answer"}, {f.Misheard, "answers wrong"}, {f.Broken, "breaches of the protocol"},
	} {
		if w.n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", w.n, w.what))
		}
	}
	if len(wrong) == 0 && len(f.Notes) > 0 {
		return f.Notes[0]
	}
	return strings.Join(wrong, ", ")
}

// auditAtOnce bounds the sessions that are read at once.
const auditAtOnce = 4

// audit reads every session from every region, whole, and holds it against what was put.
func (c *crowd) audit(ctx context.Context) (*Findings, error) {
	f := &Findings{}
	f.Puts, f.Acked, _, f.Unended = c.sums()
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(auditAtOnce)
	for _, t := range c.talks {
		g.Go(func() error {
			var logs [][]check.Item
			for _, r := range c.w.regions {
				log, err := r.nodes[0].whole(ctx, t.session, c.w.token(t.user))
				if err != nil {
					return fmt.Errorf("read %s in %s: %w", t.session, r.name, err)
				}
				logs = append(logs, log)
			}
			mu.Lock()
			defer mu.Unlock()
			t.hold(f, c.w, logs)
			return nil
		})
	}
	err := g.Wait()
	for _, d := range c.devices() {
		for _, fault := range d.faults() {
			f.Broken++
			f.note("%s", fault)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range [][]error{c.refuse, c.ended} {
		for _, e := range list {
			f.Broken++
			f.note("%v", e)
		}
	}
	return f, err
}

// wholeTail is how many entries are asked for at once: the most that a region gives.
const wholeTail = 500

// whole reads a session from a node, oldest first, over a connection of its own.
func (n *node) whole(ctx context.Context, session, token string) (log []check.Item, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o, err := newOther(ctx, n, "reader", token)
	if err != nil {
		return nil, err
	}
	defer o.ws.CloseNow()
	ask := map[string]any{"t": "open", "id": 2, "s": session, "tail": wholeTail}
	for id := 3; ; id++ {
		if err := o.write(ctx, ask); err != nil {
			return nil, err
		}
		f, err := o.await(ctx, id-1)
		if err != nil {
			return nil, err
		}
		log = append(f.Log, log...)
		if !f.More || len(f.Log) == 0 {
			return log, nil
		}
		ask = map[string]any{"t": "page", "id": id, "s": session, "before": f.Log[0].Seq, "limit": wholeTail}
	}
}

// hold compares what regions have of a session with what was put.
func (t *talk) hold(f *Findings, w *world, logs [][]check.Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, log := range logs {
		times, last, answers := map[string]int{}, make([]int, len(t.sent)), map[string]int{}
		for at, it := range log {
			times[it.OID]++
			if it.K == "run" {
				if answers[it.Of]++; answers[it.Of] > 1 || it.Text == nil || it.State != "done" || check.Digest(*it.Text) != it.Sum {
					f.Misheard++
					f.note("%s in %s: the answer %s to %s is %s %s", t.session, w.regions[i].name, it.OID, it.Of, it.State, it.Fin)
				}
				continue
			}
			p := t.puts[it.OID]
			if p == nil || p.from < 0 {
				f.Unknown++
				f.note("%s in %s: %s was never put", t.session, w.regions[i].name, it.OID)
				continue
			}
			if p.n < last[p.from] || at < len(logs[0]) && logs[0][at].OID != it.OID {
				f.Disordered++
				f.note("%s in %s: %s, number %d of its device, stands after number %d", t.session, w.regions[i].name, it.OID, p.n, last[p.from])
			}
			last[p.from] = max(last[p.from], p.n)
			if int(it.Seq) <= p.after {
				f.Disordered++
				f.note("%s in %s: %s was put when its user was shown %d, and stands at %d", t.session, w.regions[i].name, it.OID, p.after, it.Seq)
			}
		}
		for oid, p := range t.puts {
			if p.ok > 0 && times[oid] == 0 {
				f.Lost++
				f.note("%s: %s, put at %s %s after the start and acknowledged at %s, is not in %s", t.session, oid, t.devices[max(p.from, 0)].home,
					p.due, p.ok, w.regions[i].name)
			}
			if p.asks && p.ok > 0 && answers[oid] != 1 {
				f.Misheard++
				f.note("%s: %s has %d answers in %s", t.session, oid, answers[oid], w.regions[i].name)
			}
			if times[oid] > 1 {
				f.Doubled++
				f.note("%s: %s is %d times in %s", t.session, oid, times[oid], w.regions[i].name)
			}
		}
	}
	for _, p := range t.puts {
		switch {
		case p.from < 0: // told above
		case p.ok == 0:
			f.Unanswered++
		case p.from >= 0 && !p.done():
			f.Unseen++
		}
	}
}
