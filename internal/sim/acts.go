package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/roamsync/roam/client"
)

// act has a user do something.
func (w *world) act(a *Act) {
	d := w.devices[a.Device]
	w.note("act "+string(a.Kind), uint64(a.Device), uint64(a.N))
	w.tell("ACT %s %s %s %s", d, a.Kind, a.Session, a.OID)
	switch a.Kind {
	case actMove:
		d.move(w.regions[a.N%len(w.regions)])
	case actDrop:
		d.hangUp()
	case actOffline:
		d.off = true
		d.hangUp()
		w.after(time.Duration(a.N%20_000)*time.Millisecond, func() {
			d.off = false
			d.dial(0)
		})
	case actRestart:
		d.restart()
	case actClose:
		d.toggle(a.Session)
	case actOlder:
		d.eng.Older(a.Session, 1+a.N%60)
		d.flush()
	default:
		if op := d.op(a); op != nil {
			d.put(a.Session, a.OID, op)
		}
	}
}

// move goes on in another region, as a traveller does: the connection to the old one is gone.
func (d *device) move(r *region) {
	if !d.eng.Prefer(r.name) {
		return
	}
	d.w.counts.Moves++
	if d.sock != nil {
		d.sock.drop()
		d.sock = nil
		d.tick.cancel()
		d.eng.Lost(d.w.time())
		d.eng.Prefer(r.name)
	}
	d.dial(between(d.rng, 0, 50*time.Millisecond))
}

// restart ends the program and starts it: only the outbox is kept.
func (d *device) restart() {
	if d.sock != nil {
		d.sock.drop()
		d.sock = nil
	}
	d.tick.cancel()
	d.dialer.cancel()
	clear(d.views)
	d.begin()
}

// toggle closes a session, or opens it again.
func (d *device) toggle(session string) {
	if i := slices.Index(d.open, session); i >= 0 {
		d.open = slices.Delete(d.open, i, i+1)
		d.eng.Close(session)
	} else {
		d.open = append(d.open, session)
		d.openSession(session)
	}
	d.flush()
}

// op is what an act puts; nil if there is nothing that it could be about.
func (d *device) op(a *Act) map[string]any {
	st, _ := d.eng.State(a.Session)
	var messages, running []*client.Entry
	for _, e := range st.Log {
		switch {
		case e.Kind == client.KindMessage:
			messages = append(messages, e)
		case !e.Closed():
			running = append(running, e)
		}
	}
	op := map[string]any{"oid": a.OID, "k": "msg", "text": "text of " + a.OID}
	switch a.Kind {
	case actSend:
		return op
	case actAsk:
		op["run"] = map[string]any{"busy": []string{"queue", "interrupt", "reject"}[a.N%3]}
		op["text"] = fmt.Sprintf("one two three %s of %d words or so", a.OID, a.N%10)
		return op
	case actSet:
		return map[string]any{"oid": a.OID, "k": "set", "key": []string{"title", "model"}[a.N%2], "v": a.OID}
	case actForget:
		return map[string]any{"oid": a.OID, "k": "forget"}
	case actStop:
		if len(running) == 0 {
			return nil
		}
		return map[string]any{"oid": a.OID, "k": "stop", "run": running[a.N%len(running)].OID}
	}
	if len(messages) == 0 {
		return nil
	}
	of := messages[a.N%len(messages)]
	switch a.Kind {
	case actEdit:
		return map[string]any{"oid": a.OID, "k": "edit", "of": of.OID, "text": "edited by " + a.OID}
	case actDelete:
		return map[string]any{"oid": a.OID, "k": "del", "of": of.OID}
	case actReact:
		return map[string]any{"oid": a.OID, "k": "react", "of": of.OID, "v": "👍", "on": a.N%2 == 0}
	}
	return map[string]any{"oid": a.OID, "k": "read", "seq": of.Seq}
}

// put takes an op into the device's outbox.
func (d *device) put(session, oid string, op map[string]any) {
	b, err := json.Marshal(op)
	if err != nil {
		panic(err)
	}
	it := client.Item{Session: session, OID: oid, Born: d.w.time(), Op: b}
	d.w.counts.Puts++
	st, _ := d.eng.State(session)
	for _, e := range st.Log { // what the user has seen
		d.floors[oid] = max(d.floors[oid], int64(e.Seq))
	}
	if it, err = d.eng.Put(it, d.w.time()); err != nil {
		d.w.violate("client", "%s cannot put %s: %v", d, b, err)
	}
	d.kept = append(d.kept, it)
	d.flush()
}
