package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Device holds what one client sends, and takes (see Tap), to the protocol: it believes every frame as it stands, whatever the client
// makes of it. It has one owner.
type Device struct {
	User, Name string
	// Stored, if set, is told of each op of this device that a region acknowledges.
	Stored func(session string, op Item, at Place)
	Faults []string

	conn   int // connections so far, each of which begins with a hello
	views  map[string]*View
	fresh  map[string]bool    // sessions that were asked for from their start
	floors map[string]floor   // by oid: what was held when it was put first
	asked  map[string][]asked // by session: opens of this connection that were not answered
}

// floor is the highest seq that was held at a moment, and the connections of then and on which that entry came.
type floor struct {
	seq      int64
	on, came int
}

// asked is an open, and the cur that it was for. What answers a hello may have no id.
type asked struct {
	id    int64
	hello bool
	cur   string
}

// NewDevice is of a client that has nothing.
func NewDevice(user, name string) *Device {
	return &Device{User: user, Name: name, views: map[string]*View{}, fresh: map[string]bool{}, floors: map[string]floor{}, asked: map[string][]asked{}}
}

// View is what the device has of a session.
func (d *Device) View(session string) *View {
	if d.views[session] == nil {
		d.views[session] = NewView(session)
	}
	return d.views[session]
}

func (d *Device) fault(format string, args ...any) {
	d.Faults = append(d.Faults, d.User+"/"+d.Name+": "+fmt.Sprintf(format, args...))
}

// sent is what is looked at of a frame that goes out.
type sent struct {
	T, S, Cur string
	ID        int64
	Open      []struct{ S, Cur string }
	Ops       []Item
}

// Sent sees a message that goes out, of one or more frames.
func (d *Device) Sent(message []byte) {
	for line := range bytes.Lines(message) {
		var f sent
		if err := json.Unmarshal(line, &f); err != nil {
			d.fault("it sends %q: %v", line, err)
			continue
		}
		if f.T == "hello" {
			d.conn++
			clear(d.asked)
		}
		for _, o := range f.Open {
			d.opening(o.S, asked{f.ID, true, o.Cur})
		}
		switch f.T {
		case "open":
			d.opening(f.S, asked{f.ID, false, f.Cur})
		case "close":
			d.anew(f.S)
			d.fresh[f.S] = true
		case "put":
			for _, it := range f.Ops {
				d.putting(f.S, it)
			}
		}
	}
}

// anew forgets what was shown of a session; what is under way stays.
func (d *Device) anew(session string) *View {
	v := NewView(session)
	v.Own = d.View(session).Own
	d.views[session] = v
	return v
}

// opening: a client that asks without a cur starts anew.
func (d *Device) opening(session string, a asked) {
	d.fresh[session] = a.cur == ""
	d.asked[session] = append(d.asked[session], a)
	d.View(session).Opening(a.cur)
}

// answered: what answers an open may bring again all that came since it was asked, beside what came before that after its cur: the answer to
// another open, for one.
func (d *Device) answered(v *View, f *Frame) {
	list := d.asked[f.S]
	i := slices.IndexFunc(list, func(a asked) bool { return a.id == f.ID || a.hello && f.ID == 0 })
	if i < 0 || f.T != "snap" && f.T != "delta" {
		return
	}
	if list[i].cur != v.Cur {
		v.repeats()
	}
	d.asked[f.S] = slices.Delete(list, i, i+1)
}

func (d *Device) putting(session string, it Item) {
	v := d.View(session)
	it.User, it.Device = d.User, d.Name
	if it.K == "msg" && it.Role == "" {
		it.Role = "user"
	}
	v.Own[it.OID] = it
	if _, again := d.floors[it.OID]; !again {
		fl := v.highest()
		fl.on = d.conn
		d.floors[it.OID] = fl
	}
}

func (v *View) highest() (fl floor) {
	for _, e := range v.Entries {
		if e.Seq > fl.seq {
			fl.seq, fl.came = e.Seq, e.conn
		}
	}
	return fl
}

// Got sees a message that has come.
func (d *Device) Got(message []byte) {
	frames, err := Parse(message)
	if err != nil {
		d.fault("%v", err)
	}
	for _, f := range frames {
		for _, m := range f.Missing {
			d.fault("%s: %s", m, f.Raw)
		}
		if f.S != "" {
			d.apply(f)
		}
	}
}

func (d *Device) apply(f *Frame) {
	v := d.View(f.S)
	switch {
	case f.T == "snap" && d.fresh[f.S]:
		d.fresh[f.S] = false
		v = d.anew(f.S)
	case d.fresh[f.S] && (f.T == "delta" || f.T == "tok"):
		return // of an open before the one that is asked for
	}
	if f.T == "ok" {
		d.acked(v, f)
	}
	d.answered(v, f)
	v.conn = d.conn
	v.Apply(f)
	for _, fault := range v.Faults {
		d.fault("%s", fault)
	}
	v.Faults = nil
}

// acked: what is put after something was seen stands after it.
func (d *Device) acked(v *View, f *Frame) {
	for _, at := range f.At {
		op, own := v.Own[at.OID]
		if !own {
			continue
		}
		if fl := d.floors[at.OID]; op.K == "msg" && at.Seq <= fl.seq {
			d.fault("%s was put on connection %d after %d was seen on connection %d, and stands at %d, by connection %d", at.OID, fl.on, fl.seq, fl.came, at.Seq, d.conn)
		}
		if d.Stored != nil {
			d.Stored(f.S, op, at)
		}
	}
}
