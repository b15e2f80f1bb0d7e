package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/check"
)

// device is one client of a user: the SDK's engine, and beside it a checker that believes every frame.
type device struct {
	w      *world
	at     int
	name   string
	user   string
	plan   DevicePlan
	rng    *rand.Rand
	eng    *client.Engine
	kept   []client.Item // what the outbox has on its disk
	open   []string
	sock   *socket
	dialer *event
	tick   *event
	off    bool // the user has no network
	views  map[string]*check.View
	floors map[string]int64         // by oid: the highest seq that was held when it was put first
	sentAt map[string]time.Duration // by oid: when it was put on this connection
	fresh  map[string]bool          // sessions that were asked for from their start
	paging map[string]int64         // by session: the page that was asked for
}

func (w *world) newDevice(i int) *device {
	p := w.plan.Devices[i]
	d := &device{
		w: w, at: i, name: fmt.Sprintf("d%d", i), user: fmt.Sprintf("u%d", p.User), plan: p,
		rng: dice(w.seed, fmt.Sprintf("device %d", i)), open: slices.Clone(p.Sessions),
		views: map[string]*check.View{}, floors: map[string]int64{}, sentAt: map[string]time.Duration{},
		fresh: map[string]bool{}, paging: map[string]int64{},
	}
	return d
}

func (d *device) String() string { return d.user + "/" + d.name }

// begin starts the device's program.
func (d *device) begin() {
	var regions []client.Region
	for i := range d.w.regions {
		r := d.w.regions[(d.plan.Home+i)%len(d.w.regions)]
		regions = append(regions, client.Region{Name: r.name, URL: "ws://" + r.name + "/"})
	}
	eng, err := client.NewEngine(client.EngineConfig{
		Regions: regions, Device: d.name, Agent: "sim", MaxOutbox: 1 << 16, MaxAge: d.w.plan.Removed / 2, Dice: d.rng.Float64,
	}, d.kept)
	if err != nil {
		panic(err) // what is kept is what was put
	}
	d.eng = eng
	for _, s := range d.open {
		d.openSession(s)
	}
	d.dial(between(d.rng, 0, 200*time.Millisecond))
}

func (d *device) openSession(session string) {
	if err := d.eng.Open(session, d.w.time()); err != nil {
		panic(err)
	}
}

func (d *device) view(session string) *check.View {
	if d.views[session] == nil {
		d.views[session] = check.NewView(session)
	}
	return d.views[session]
}

// dial connects, soon.
func (d *device) dial(in time.Duration) {
	d.dialer.cancel()
	d.dialer = d.w.after(in, func() {
		if d.sock != nil || d.off {
			return
		}
		g := d.w.region(d.eng.Region().Name).of(crdt.PartitionOf(d.plan.Sessions[0])) // all its sessions are of one group
		n := g.nodes[d.rng.IntN(len(g.nodes))]
		if d.sock = n.connectClient(d); d.sock == nil {
			d.dial(d.eng.Lost(d.w.time()) + 10*time.Millisecond)
			return
		}
		d.w.counts.Links++
		d.w.tell("%s connects to %s", d, n)
		clear(d.sentAt)
		clear(d.paging)
		d.eng.Begin("dev:"+d.user, d.w.time())
		d.flush()
	})
}

// flush sends what the engine wants sent, and plans when it is to be asked again.
func (d *device) flush() {
	if d.sock == nil {
		return
	}
	now := d.w.time()
	if err := d.eng.Tick(now); err != nil {
		d.w.tell("%s gives up its connection: %v", d, err)
		d.hangUp()
		return
	}
	for _, line := range strings.Split(string(d.eng.Take(now)), "\n") {
		if line != "" {
			d.sent(line)
			d.sock.send([]byte(line))
		}
	}
	for _, oid := range d.eng.Gone() {
		d.gaveUp(oid)
		if a := d.w.acked[oid]; a != nil && a.alone && a.losses > 0 && !d.w.holds(oid) {
			a.excused = true // lost with the only region that counted; it was kept for the order of those behind it, whose ok was on its way
		}
		d.kept = slices.DeleteFunc(d.kept, func(it client.Item) bool { return it.OID == oid })
	}
	d.tick.cancel()
	d.tick = d.w.after(max(d.eng.Due(now).Sub(now), time.Millisecond), d.flush)
}

// gaveUp notes, of an op that leaves the outbox because it is too old, whether any region has it: if none does, it is lost.
func (d *device) gaveUp(oid string) {
	i := slices.IndexFunc(d.kept, func(it client.Item) bool { return it.OID == oid })
	a := d.w.acked[oid]
	if i < 0 || a == nil || d.w.plan.Removed == 0 || d.w.time().Sub(d.kept[i].Born) <= d.w.plan.Removed/2 {
		return
	}
	a.excused = a.excused || !a.safe && !d.w.holds(oid)
}

// sentFrame is what the checkers look at of a frame that goes out.
type sentFrame struct {
	T    string
	ID   int64
	S    string
	Open []struct{ S, Cur string }
	Cur  string
	Ops  []check.Item
}

// sent sees every frame that goes out.
func (d *device) sent(line string) {
	var f sentFrame
	if err := json.Unmarshal([]byte(line), &f); err != nil {
		d.w.violate("protocol", "%s sends %q: %v", d, line, err)
		return
	}
	d.w.noteBytes("sent "+d.name, []byte(line))
	if d.w.story != nil {
		d.w.tell("%s sends %s", d, short(line))
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
	case "page":
		d.paging[f.S] = f.ID
	case "put":
		for _, it := range f.Ops {
			d.putting(f.S, it)
		}
	}
}

// anew forgets what was shown of a session; what is under way stays.
func (d *device) anew(session string) *check.View {
	v := check.NewView(session)
	v.Own = d.view(session).Own
	d.views[session] = v
	delete(d.paging, session)
	return v
}

// opening: a client that asks without a cur starts anew.
func (d *device) opening(session, cur string) {
	d.fresh[session] = cur == ""
	d.view(session).Opening(cur)
}

func (d *device) putting(session string, it check.Item) {
	v := d.view(session)
	it.User, it.Device = d.user, d.name
	if it.Role == "" {
		it.Role = "user"
	}
	v.Own[it.OID] = it
	d.sentAt[it.OID] = d.w.now
}

// receive takes a message from a region.
func (d *device) receive(s *socket, message []byte) {
	if d.sock != s {
		return
	}
	d.w.noteBytes("got "+d.name, message)
	frames, err := check.Parse(message)
	if err != nil {
		d.w.violate("protocol", "%s got what is not frames: %v", d, err)
		return
	}
	for _, f := range frames {
		d.check(s, f)
	}
	if err := d.eng.Receive(message, d.w.time()); err != nil {
		d.w.violate("protocol", "%s cannot use what it got: %v", d, err)
		return
	}
	d.flush()
}

// check believes a frame, and notes what is wrong with it.
func (d *device) check(s *socket, f *check.Frame) {
	if d.w.story != nil {
		d.w.tell("%s got %s", d, short(string(f.Raw)))
	}
	for _, m := range f.Missing {
		d.w.violate("protocol", "%s: %s: %s", d, m, f.Raw)
	}
	if f.S == "" {
		return
	}
	v := d.view(f.S)
	switch {
	case f.T == "snap" && d.fresh[f.S]:
		d.fresh[f.S] = false
		v = d.anew(f.S)
	case f.T == "snap" && f.Why == "resync" && d.w.lost:
		v = d.anew(f.S) // said so, and nobody has what it showed any more but whoever put it
		v.Opening(f.Cur)
	case d.fresh[f.S] && (f.T == "delta" || f.T == "tok"):
		return // of an open before the one that is asked for
	}
	switch f.T {
	case "snap":
		delete(d.paging, f.S)
	case "ok":
		d.acked(s, v, f)
	case "page": // one that was asked for before a snap does not fit to it
		if d.paging[f.S] == f.ID {
			v.Page(f)
		}
	}
	v.Apply(f)
	switch {
	case len(v.Faults) > 0 && d.w.lost && strings.Contains(v.Faults[0], "a snap (resync) lost"):
		v.Faults = nil // said so, and nobody has it any more but whoever put it
	case len(v.Faults) > 0:
		d.w.violate("6 and 11 what a client sees", "%s in %s: %s", d, s.n.g.name, v.Faults[0])
	}
	if f.T == "safe" {
		for _, oid := range f.OIDs {
			if a := d.w.acked[oid]; a != nil {
				s.w.called(s, a, oid)
			}
		}
	}
}

func short(s string) string {
	if len(s) > 3000 {
		return s[:3000] + "…"
	}
	return s
}

// acked notes what is acknowledged, and that it stands after all that its client had seen.
func (d *device) acked(s *socket, v *check.View, f *check.Frame) {
	for _, at := range f.At {
		op := v.Own[at.OID]
		a := d.w.acked[at.OID]
		if a == nil {
			a = &ack{session: f.S, kind: op.K, by: d, region: s.n.g.name}
			d.w.acked[at.OID] = a
			d.w.counts.Acks++
		}
		a.checkLate(s.n, at.OID, op.Of)
		if f.Safe != nil && *f.Safe {
			s.w.called(s, a, at.OID)
			if string(f.Regions) == "0" && s.orphaned() && !d.w.holds(at.OID) { // it was lost with the only region that counted, while its ok was on its way: as with one region, ok is all there is
				a.alone, a.excused = true, true
			}
		}
		if op.K == "msg" && at.Seq <= d.floors[at.OID] {
			d.w.violate("7 order", "%s put %s after it had seen %d, and it stands at %d", d, at.OID, d.floors[at.OID], at.Seq)
		}
		d.checkSpeed(s, at.OID)
	}
}

// promptly is how long a put may take in a region that nothing is wrong with, whatever is wrong elsewhere.
const promptly = 3 * time.Second

// checkSpeed: other regions, slow or gone, do not delay an ok.
func (d *device) checkSpeed(s *socket, oid string) {
	since, ok := d.sentAt[oid]
	if !ok || d.w.now-since < promptly || s.n.slow > 0 {
		return
	}
	if g := s.n.g; len(g.voters()) == len(g.nodes) && g.troubled < since-10*time.Second && g.stall < since-time.Second && !g.shaky {
		d.w.violate("13 local", "%s waited %s for the ok of %s, and nothing was wrong in %s", d, d.w.now-since, oid, g.name)
	}
}

// closed takes the end of the connection.
func (d *device) closed(s *socket, code int, why string) {
	if d.sock != s {
		return
	}
	d.w.tell("%s: connection ended: %d %s", d, code, why)
	if code != 0 && code != 4001 && code != 4002 && code != 4005 {
		d.w.violate("protocol", "%s is sent away: %d %s", d, code, why)
	}
	d.hangUp()
}

// hangUp ends the connection, and plans the next.
func (d *device) hangUp() {
	if d.sock == nil {
		return
	}
	d.sock.drop()
	d.sock = nil
	d.tick.cancel()
	d.dial(d.eng.Lost(d.w.time()) + time.Millisecond)
}

// comeBack ends what keeps a device from its regions.
func (d *device) comeBack() {
	d.off = false
	if d.sock != nil && d.sock.lost { // nothing passes any more: the network says so now
		d.hangUp()
	}
	if d.sock == nil {
		d.dial(0)
	}
	for _, s := range d.plan.Sessions {
		if !slices.Contains(d.open, s) {
			d.open = append(d.open, s)
			d.openSession(s)
		}
	}
	d.flush()
}

// keeps reports whether the device still has an op, and would put it again.
func (d *device) keeps(oid string) bool {
	return slices.ContainsFunc(d.kept, func(it client.Item) bool { return it.OID == oid })
}

// unsettled says what the device still waits for.
func (d *device) unsettled() string {
	if d.sock == nil {
		return "it is not connected"
	}
	for _, s := range d.plan.Sessions {
		st, ok := d.eng.State(s)
		switch {
		case !ok || !st.Live || !d.view(s).Opened:
			return s + " is not open"
		case len(st.Outbox) > 0:
			return fmt.Sprintf("%d ops of %s wait, the first, %s, is %s", len(st.Outbox), s, st.Outbox[0].OID, st.Outbox[0].Stage)
		case st.Behind:
			return s + " is behind"
		case st.More:
			d.eng.Older(s, 1+d.rng.IntN(50))
			d.flush()
			return s + " is not paged to its start"
		}
	}
	return ""
}

// checkEnd: what the client shows is what its region has, and so is what a client shows that believes every frame.
func (d *device) checkEnd() {
	for _, s := range d.plan.Sessions {
		var want []string
		_ = d.sock.n.View(s, func(st crdt.Store) { want = d.rows(st, d.view(s).From, d.w.everGone(s)) })
		d.compare("the frames that it got say", s, want, d.viewRows(s))
		st, _ := d.eng.State(s)
		d.compare("its SDK shows", s, want, d.stateRows(st))
	}
}

// compare asks for less if a disk has taken what nobody else had: then it is enough that nothing is missing.
func (d *device) compare(what, session string, want, got []string) {
	if d.w.lost {
		want, got = names(want), names(got)
		got = slices.DeleteFunc(got, func(oid string) bool { return !slices.Contains(want, oid) })
	}
	if !slices.Equal(want, got) {
		d.w.violate("6 and 7 what a client sees", "%s has of %s\n%s\nand of %s %s\n%s", d.sock.n, session, strings.Join(want, "\n"),
			d, what, strings.Join(got, "\n"))
	}
}

// names are the oids of entries.
func names(rows []string) (all []string) {
	for _, row := range rows {
		if f := strings.Fields(row); len(f) > 2 && f[0] != "key" {
			all = append(all, f[1])
		}
	}
	slices.Sort(all)
	return all
}

// lastRows is how many entries a client has of a long session, at least.
const lastRows = 40

// rows renders the entries of a session from a seq on, and its map. If a disk has taken some, others may have other places, and
// the last ones are looked for, wherever they are, but for those of gone.
func (d *device) rows(st crdt.Store, from int64, gone map[string]bool) (all []string) {
	log, _ := crdt.Page(st, 0, 1<<30)
	if d.w.lost {
		log, from = log[max(0, len(log)-lastRows):], 0
	}
	for _, e := range log {
		if e.Place.Seq < uint64(from) || gone[e.OID] || e.Run != nil && gone[e.Run.Of] {
			continue
		}
		switch {
		case e.Run != nil:
			all = append(all, row(e.Place.Seq, e.Place.At.Region(), e.OID, e.Run.State.String()+" "+*e.Run.Text))
		case e.Msg.Deleted:
			all = append(all, row(e.Place.Seq, e.Place.At.Region(), e.OID, ""))
		default:
			all = append(all, row(e.Place.Seq, e.Place.At.Region(), e.OID, e.Msg.Text))
		}
	}
	for _, m := range crdt.Map(st) {
		all = append(all, fmt.Sprintf("key %s = %s", m.Key, m.Value))
	}
	return all
}

func row(seq uint64, _, oid, text string) string { return fmt.Sprintf("%08d %s %q", seq, oid, text) }

func (d *device) viewRows(session string) (all []string) {
	v := d.view(session)
	for _, e := range v.Log() {
		if !d.w.lost && e.Seq < v.From {
			continue // a page would bring what stands around it
		}
		text := e.Shown
		if e.K == "run" {
			text = e.Item.State + " " + text
		}
		all = append(all, row(uint64(e.Seq), e.At, e.OID, text))
	}
	for _, k := range sortedKeys(v.Values) {
		if b := v.Values[k].V; len(b) > 0 && string(b) != "null" {
			all = append(all, fmt.Sprintf("key %s = %s", k, b))
		}
	}
	return all
}

func (d *device) stateRows(st client.State) (all []string) {
	for _, e := range st.Log {
		text := e.Text
		if e.Kind == client.KindAnswer {
			text = e.Status + " " + text
		}
		all = append(all, row(e.Seq, e.At, e.OID, text))
	}
	for _, k := range sortedKeys(st.Map) {
		all = append(all, fmt.Sprintf("key %s = %s", k, st.Map[k].JSON))
	}
	return all
}
