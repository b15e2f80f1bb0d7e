package bubble

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/check"
	"github.com/roamsync/roam/internal/memnet"
)

// status is what is read of /v1/status.
type status struct {
	Ready  bool   `json:"ready"`
	Origin string `json:"origin"`
	Raft   struct {
		Leads     bool
		Nodes     []struct{ Role string }
		Floors    map[string]map[int]uint64
		Transfers []struct{ Sessions, Merged uint64 }
	}
	Partitions  []partition `json:"partitions"`
	Replication struct {
		Elsewhere map[string]map[string][]uint64 // region, origin: cursors by partition
		Waited    []int
		Ways      map[string]struct{ RTTMs, LossTo, LossFrom, HeardSeconds float64 }
	}
}

type partition struct {
	Cursors map[string]uint64 `json:"cursors"`
	Digest  string            `json:"digest"`
}

// status asks a node.
func (n *node) status() (s status, err error) {
	resp, err := n.w.operator().Get("http://" + n.opts.AdminAddr + "/v1/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s", resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// mostFaults bounds what is printed: one bug breaks many promises.
const mostFaults = 12

// heal ends everything that is wrong.
func (w *world) heal() {
	for _, d := range w.devices {
		d.away(memnet.Open)
	}
	for _, a := range w.regions {
		for _, b := range w.regions {
			w.cut(a, b, memnet.Open)
		}
		for _, n := range a.nodes {
			n.alone(memnet.Open)
			n.start()
		}
	}
}

// finish heals, waits until all is level, holds all copies together, and returns what is broken.
func (w *world) finish() []string {
	w.heal()
	if left := w.waitFor(w.unsettled); left != "" {
		w.violate("12 level: %s after everything was well again: %s", patience, left)
	}
	found := w.collect().broken()
	return append(w.faults(), found...)
}

// faults are those that were noted on the way.
func (w *world) faults() (all []string) {
	w.mu.Lock()
	all = append(all, w.wrong...)
	w.mu.Unlock()
	for _, d := range w.devices {
		d.mu.Lock()
		for _, f := range d.eye.Faults {
			all = append(all, "6 and 11 what a client sees: "+f)
		}
		d.mu.Unlock()
	}
	return all
}

// unsettled says what is not level yet.
func (w *world) unsettled() string {
	for _, d := range w.devices {
		if why := d.unsettled(); why != "" {
			return d.name + ": " + why
		}
	}
	var first []partition
	for _, s := range w.regions {
		for _, n := range s.nodes {
			st, err := n.status()
			if err != nil || !st.Ready {
				return fmt.Sprintf("%s does not serve: %v", n.place, err)
			}
			if first == nil {
				first = st.Partitions
			}
			for p := range st.Partitions {
				if a, b := cursorsOf(first[p]), cursorsOf(st.Partitions[p]); a != b {
					return fmt.Sprintf("partition %d of %s: cursors %s, elsewhere %s", p, n.place, b, a)
				}
			}
		}
	}
	return ""
}

func cursorsOf(p partition) string {
	b, _ := json.Marshal(p.Cursors) // sorted
	return string(b)
}

// unsettled says what the device still waits for.
func (d *device) unsettled() string {
	st := d.s.State()
	switch {
	case !st.Live:
		return "it is not connected"
	case len(st.Outbox) > 0:
		return fmt.Sprintf("%d ops wait, the first, %s, is %s", len(st.Outbox), st.Outbox[0].OID, st.Outbox[0].Stage)
	case st.Behind:
		return "its region is behind"
	}
	for _, e := range st.Log {
		if e.Kind == client.KindAnswer && !e.Closed() {
			return fmt.Sprintf("the answer %s is %s", e.OID, e.Status)
		}
	}
	return ""
}

// collect reads everything there is to compare.
func (w *world) collect() *outcome {
	w.mu.Lock()
	o := &outcome{acked: w.acked}
	w.mu.Unlock()
	sessions := map[string]string{} // session → user
	for _, d := range w.devices {
		sessions[d.session] = d.user
		d.mu.Lock()
		v := d.eye.View(d.session)
		o.copies = append(o.copies, copyOf{who: "the frames of " + d.name, session: d.session, rows: viewRows(v), part: true},
			copyOf{who: "the SDK of " + d.name, session: d.session, rows: stateRows(d.s.State()), part: true})
		d.mu.Unlock()
	}
	for _, s := range w.regions {
		for _, n := range s.nodes {
			st, err := n.status()
			if err != nil {
				w.violate("%s: %v", n.place, err)
			}
			o.nodes = append(o.nodes, nodeState{n.place, st.Partitions})
			for session, user := range sessions {
				v, err := w.read(n, user, session)
				if err != nil {
					w.violate("%s cannot be read at %s: %v", session, n.place, err)
					continue
				}
				o.copies = append(o.copies, copyOf{who: n.place, session: session, rows: viewRows(v), view: v})
			}
		}
	}
	return o
}

// read has a new client open a session at a node.
func (w *world) read(n *node, user, session string) (*check.View, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, err := w.webSocket(ctx, "reader", n.url())
	if err != nil {
		return nil, err
	}
	defer ws.CloseNow()
	hello := fmt.Sprintf(`{"t":"hello","id":1,"token":"dev:%s","device":"reader","open":[{"s":%q,"tail":500}]}`, user, session)
	if err := ws.Write(ctx, websocket.MessageText, []byte(hello)); err != nil {
		return nil, err
	}
	d := check.NewDevice(user, "reader")
	d.Sent([]byte(hello))
	for more := true; more; {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return nil, err
		}
		d.Got(b)
		ask := ""
		if ask, more = older(d.View(session), session, b); ask != "" {
			if err := ws.Write(ctx, websocket.MessageText, []byte(ask)); err != nil {
				return nil, err
			}
		}
	}
	for _, f := range d.Faults {
		w.violate("2, 6 and 11 what a new client sees at %s: %s", n.place, f)
	}
	return d.View(session), nil
}

// older takes a page, if one has come, and returns what is to be asked next; more is false once all of the session is there.
func older(v *check.View, session string, message []byte) (ask string, more bool) {
	frames, err := check.Parse(message)
	if err != nil {
		return "", false
	}
	more = true
	for _, f := range frames {
		if f.T != "snap" && f.T != "page" {
			continue
		}
		if f.T == "page" {
			for _, it := range f.Log {
				v.Hold(it)
			}
		}
		if more = f.More; more {
			ask = fmt.Sprintf(`{"t":"page","id":2,"s":%q,"before":%d,"limit":500}`, session, v.Log()[0].Seq)
		}
	}
	return ask, more
}
