package check

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Device holds what one client sends and gets to the protocol: it believes every frame as it stands, whatever the client
// makes of it. It has one owner.
type Device struct {
	User, Name string
	// Stored, if set, is told of each op of this device that a region acknowledges.
	Stored func(session string, op Item, at Place)
	Faults []string

	views  map[string]*View
	fresh  map[string]bool  // sessions that were asked for from their start
	floors map[string]int64 // by oid: the highest seq that was held when it was put first
}

// NewDevice is of a client that has nothing.
func NewDevice(user, name string) *Device {
	return &Device{User: user, Name: name, views: map[string]*View{}, fresh: map[string]bool{}, floors: map[string]int64{}}
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
		for _, o := range f.Open {
			d.opening(o.S, o.Cur)
		}
		switch f.T {
		case "open":
			d.opening(f.S, f.Cur)
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
func (d *Device) opening(session, cur string) {
	d.fresh[session] = cur == ""
	d.View(session).Opening(cur)
}

func (d *Device) putting(session string, it Item) {
	v := d.View(session)
	it.User, it.Device = d.User, d.Name
	if it.K == "msg" && it.Role == "" {
		it.Role = "user"
	}
	v.Own[it.OID] = it
	if _, again := d.floors[it.OID]; !again {
		d.floors[it.OID] = v.highest()
	}
}

func (v *View) highest() (seq int64) {
	for _, e := range v.Entries {
		seq = max(seq, e.Seq)
	}
	return seq
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
		if floor := d.floors[at.OID]; op.K == "msg" && at.Seq <= floor {
			d.fault("%s was put after %d was seen, and stands at %d", at.OID, floor, at.Seq)
		}
		if d.Stored != nil {
			d.Stored(f.S, op, at)
		}
	}
}
