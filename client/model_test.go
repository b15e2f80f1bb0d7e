package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// world is a deliberately dumb model of regions: each session is one list of events that all regions will have, and
// each region has some prefix of it. A resume token is the length of the prefix that was delivered.
type world struct {
	sessions map[string]*modelSession
	regions  []string
	clock    int
}

type modelSession struct {
	events []event
	has    map[string]int // region -> length of its prefix
}

// event is what a live stream sends: an entry or map op (delta), or a piece of an answer.
type event struct {
	item *item
	tok  *tokFrame
	by   *modelConn // not sent back to the connection that put it
}

type tokFrame struct {
	T   string `json:"t"`
	S   string `json:"s"`
	Run string `json:"run"`
	EP  string `json:"ep"`
	Off uint64 `json:"off"`
	D   string `json:"d"`
	Cur string `json:"cur,omitempty"`
}

func newWorld(regions ...string) *world {
	return &world{sessions: map[string]*modelSession{}, regions: regions}
}

func (w *world) session(id string) *modelSession {
	s := w.sessions[id]
	if s == nil {
		s = &modelSession{has: map[string]int{}}
		w.sessions[id] = s
	}
	return s
}

func (w *world) tick() int { w.clock++; return w.clock }

func (w *world) hlc() string { return fmt.Sprintf("%016x", w.tick()) }

// view is what a prefix of events amounts to, by folding it in order.
type view struct {
	entries map[string]*item
	vals    map[string]*item
	read    map[string]uint64
}

func (s *modelSession) view(n int) view {
	v := view{entries: map[string]*item{}, vals: map[string]*item{}, read: map[string]uint64{}}
	for _, e := range s.events[:n] {
		if e.tok != nil {
			run := v.entries[e.tok.Run]
			text := (*run.Text)[:e.tok.Off] + e.tok.D
			run.Text, run.EP = &text, e.tok.EP
			continue
		}
		v.apply(e.item)
	}
	return v
}

func (v view) apply(it *item) {
	c := *it
	switch it.K {
	case "msg":
		v.entries[it.OID] = &c
	case "run":
		if old := v.entries[it.OID]; old != nil && it.Text == nil {
			c.Text = old.Text
		}
		v.entries[it.OID] = &c
	case "set":
		if old := v.vals[it.Key]; old == nil || old.HLC < it.HLC {
			v.vals[it.Key] = &c
		}
	case "edit":
		if m := v.entries[it.Of]; m != nil {
			m.Text, m.Edited = it.Text, true
		}
	case "read":
		v.read[it.User] = max(v.read[it.User], it.Seq)
	}
}

func (v view) log() []*item {
	return slices.SortedFunc(maps.Values(v.entries), func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.At, b.At), cmp.Compare(a.OID, b.OID))
	})
}

func (v view) maxSeq() (n uint64) {
	for _, e := range v.entries {
		n = max(n, e.Seq)
	}
	return n
}

// since is what a holder of the first n events lacks of the first m: everything touched, as it is at m.
func (s *modelSession) since(n, m int) []item {
	v, seen, out := s.view(m), map[string]bool{}, []item{}
	add := func(it *item) {
		if it != nil && !seen[it.K+it.OID] {
			seen[it.K+it.OID] = true
			out = append(out, *it)
		}
	}
	for _, e := range s.events[n:m] {
		switch {
		case e.tok != nil:
			add(v.entries[e.tok.Run])
		case e.item.K == "msg" || e.item.K == "run":
			add(v.entries[e.item.OID])
		default:
			add(e.item)
			if e.item.K == "set" {
				add(v.vals[e.item.Key])
			}
		}
	}
	return out
}

// modelConn is a region's end of one connection.
type modelConn struct {
	w      *world
	region string
	user   string
	at     map[string]int // session -> events delivered
	behind map[string]bool
	out    []any
	oids   map[string][]string // ops put here and not told safe

	quiet  bool                      // no tokens
	refuse func(put putFrame) *frame // nil, or what to answer a put instead
	bare   func() bool               // send this piece without a token
	lose   func() bool               // lose this piece, which no region does
}

type object map[string]any

func (w *world) connect(region string) *modelConn {
	return &modelConn{
		w: w, region: region, user: "alice", at: map[string]int{}, behind: map[string]bool{}, oids: map[string][]string{},
		refuse: func(putFrame) *frame { return nil }, bare: func() bool { return false }, lose: func() bool { return false },
	}
}

// receive takes a client's frame; the answers are in out.
func (c *modelConn) receive(line []byte) {
	var f struct {
		T    string
		ID   int64
		S    string
		Cur  string
		Open []openItem
		Ops  []json.RawMessage
	}
	if err := json.Unmarshal(line, &f); err != nil {
		panic(err)
	}
	switch f.T {
	case "hello":
		c.welcome(f.ID)
		for _, o := range f.Open {
			c.open(f.ID, o.S, o.Cur)
		}
	case "open":
		c.open(f.ID, f.S, f.Cur)
	case "close":
		delete(c.at, f.S)
		c.send(object{"t": "ok", "id": f.ID, "s": f.S, "regions": 0, "safe": false})
	case "put":
		c.put(putFrame{ID: f.ID, S: f.S, Ops: f.Ops})
	}
}

func (c *modelConn) send(f any) { c.out = append(c.out, f) }

func (c *modelConn) welcome(id int64) {
	var regions []object
	for _, r := range c.w.regions {
		regions = append(regions, object{"name": r, "url": "ws://" + r + "/v1/connect", "state": "up"})
	}
	c.send(object{
		"t": "welcome", "id": id, "conn": "c1", "user": c.user, "region": c.region, "node": "n1", "ping": 25, "exp": 0,
		"max": object{"frame": 65536, "ops": 8, "rate": 0}, "regions": regions,
	})
}

func (c *modelConn) open(id int64, sid, cur string) {
	s := c.w.session(sid)
	has := s.has[c.region]
	n, err := strconv.Atoi(strings.TrimPrefix(cur, "c"))
	if cur == "" || err != nil || n > len(s.events) {
		c.snap(id, sid, "new")
		return
	}
	if n > has {
		c.at[sid], c.behind[sid] = n, true
		c.send(object{"t": "delta", "id": id, "s": sid, "cur": cur, "ops": []item{}, "behind": true})
		return
	}
	c.at[sid] = has
	c.send(object{"t": "delta", "id": id, "s": sid, "cur": fmt.Sprint("c", has), "ops": s.since(n, has)})
}

func (c *modelConn) snap(id int64, sid, why string) {
	s := c.w.session(sid)
	has := s.has[c.region]
	v := s.view(has)
	vals := object{}
	for k, it := range v.vals {
		if !isNull(it.V) {
			vals[k] = object{"v": it.V, "hlc": it.HLC, "user": it.User}
		}
	}
	c.at[sid] = has
	c.send(object{
		"t": "snap", "id": id, "s": sid, "cur": fmt.Sprint("c", has), "map": vals, "read": v.read, "log": v.log(),
		"more": false, "why": why,
	})
}

// flush sends what the region has and this connection was not sent.
func (c *modelConn) flush(sid string) {
	s := c.w.session(sid)
	at, open := c.at[sid]
	if !open {
		return
	}
	for ; at < s.has[c.region]; at++ {
		e, cur := s.events[at], fmt.Sprint("c", at+1)
		switch {
		case e.tok != nil && c.lose():
		case e.tok != nil:
			t := *e.tok
			if !c.quiet && !c.bare() {
				t.Cur = cur
			}
			c.send(t)
		case e.by != c:
			f := object{"t": "delta", "s": sid, "ops": []item{*e.item}}
			if !c.quiet {
				f["cur"] = cur
			}
			if c.behind[sid] {
				f["behind"] = false
				delete(c.behind, sid)
			}
			c.send(f)
		}
	}
	c.at[sid] = max(c.at[sid], at)
}

func (c *modelConn) put(p putFrame) {
	if f := c.refuse(p); f != nil {
		c.send(object{"t": "err", "id": p.ID, "s": p.S, "code": f.Code, "msg": f.Msg, "retry": f.Retry})
		return
	}
	s := c.w.session(p.S)
	s.has[c.region] = len(s.events) // it learns of all there is before it adds to it
	c.flush(p.S)
	var at []placed
	for _, raw := range p.Ops {
		var o op
		if err := json.Unmarshal(raw, &o); err != nil {
			panic(err)
		}
		at = append(at, c.accept(p.S, o))
		c.oids[p.S] = append(c.oids[p.S], o.OID)
	}
	s.has[c.region] = len(s.events)
	c.quiet = true // a token would cover the ops, which the ok delivers
	c.flush(p.S)
	c.quiet = false
	ok := object{"t": "ok", "id": p.ID, "s": p.S, "at": at, "regions": 0, "safe": false}
	if n, open := c.at[p.S]; open {
		ok["cur"] = fmt.Sprint("c", n)
	}
	c.send(ok)
}

// accept adds an op to its session, unless its oid is known.
func (c *modelConn) accept(sid string, o op) placed {
	s := c.w.session(sid)
	v := s.view(len(s.events))
	for _, e := range s.events {
		if e.item != nil && e.item.OID == o.OID {
			if m := v.entries[o.OID]; m != nil {
				return placed{OID: o.OID, Seq: m.Seq, At: m.At}
			}
			return placed{OID: o.OID, HLC: e.item.HLC}
		}
	}
	it := &item{K: o.K, OID: o.OID, Text: o.Text, User: c.user, Device: "phone", Of: o.Of, Key: o.Key, V: o.V, HLC: c.w.hlc()}
	p := placed{OID: o.OID, HLC: it.HLC}
	if o.K == "msg" {
		it.Seq, it.At, it.Role, it.HLC = v.maxSeq()+1, c.region+".1", "user", ""
		p = placed{OID: o.OID, Seq: it.Seq, At: it.At}
	}
	s.events = append(s.events, event{item: it, by: c})
	if o.K == "msg" && o.Run != nil {
		none := ""
		s.events = append(s.events, event{item: &item{
			K: "run", OID: "run-" + o.OID, Of: o.OID, Seq: it.Seq + 1, At: it.At, Model: "echo", State: "queued", Text: &none,
		}})
	}
	return p
}

// safe tells that everything put on this connection is in other regions too.
func (c *modelConn) safe() {
	for sid, oids := range c.oids {
		c.send(object{"t": "safe", "s": sid, "oids": oids})
	}
	c.oids = map[string][]string{}
}

// add appends an event that comes from elsewhere, at its region.
func (w *world) add(sid, region string, e event) {
	s := w.session(sid)
	s.events = append(s.events, e)
	s.has[region] = len(s.events)
}

// answer moves an answer on: the next piece, a new attempt, or its end.
func (w *world) answer(sid, region, run, step string, size int) {
	s := w.session(sid)
	it := *s.view(len(s.events)).entries[run]
	switch step {
	case "begin":
		n, _ := strconv.Atoi(it.EP)
		none := ""
		it.State, it.EP, it.Text = "running", fmt.Sprintf("%04d", n+1), &none
		it.Len, it.Sum, it.Fin = nil, "", ""
		w.add(sid, region, event{item: &it})
	case "piece":
		d := strings.Repeat(string(rune('a'+w.tick()%26)), size)
		w.add(sid, region, event{tok: &tokFrame{T: "tok", S: sid, Run: run, EP: it.EP, Off: uint64(len(*it.Text)), D: d}})
	case "done":
		n := uint64(len(*it.Text))
		it.State, it.Len, it.Sum, it.Fin, it.Text = "done", &n, sumOf([]byte(*it.Text)), "end", nil
		w.add(sid, region, event{item: &it})
	}
}
