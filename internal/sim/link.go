package sim

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// Times of a link, as replication has them.
const (
	headsEvery  = 250 * time.Millisecond
	silentAfter = 2 * time.Second
	redialMin   = 100 * time.Millisecond
	redialMax   = 2 * time.Second
	mirrorEvery = 20 * time.Millisecond
)

// wan is the way from one region to another.
type wan struct {
	rng    *rand.Rand
	delay  time.Duration
	jitter time.Duration
	cut    int // cuts that are in force
	air    *rand.Rand
	loss   float64 // the share of datagrams that are lost, come twice, or late
	lossy  float64 // the share of messages that are lost, come twice or late, on streams that live on
}

func (l *wan) draw() time.Duration { return l.delay + between(l.rng, 0, l.jitter) }

// stream is one that a leader (follower) has opened to another region's leader (server).
type stream struct {
	w        *world
	follower *node
	server   *node
	f        *feeds.Follower
	s        *feeds.Sender
	forth    lane // follower to server
	back     lane
	heard    time.Duration
	said     time.Time // when heads came last
	known    bool      // heads have come
	epoch    uint64    // of the follower's region, as it said last
	gone     [2]bool
	pumping  bool
	pulse    feeds.Pulse
	tick     *event
	stops    []func()
}

// lane carries a stream's messages in one direction, in order. One that is lost breaks it: nothing comes after.
type lane struct {
	way    *wan
	last   time.Duration
	dead   bool
	harmed bool // some were lost, doubled, held up, or sent to who was paused or slow
}

// send delivers after the way's delay, and in order. A way that is lossy may lose, double or hold up a message and go on:
// no TCP does that, but whoever survives it survives TCP.
func (s *stream) send(l *lane, to *node, fn func()) {
	if l.dead {
		return
	}
	if l.way.cut > 0 {
		l.dead, l.harmed = true, true
		return
	}
	l.harmed = l.harmed || to.paused || to.slow > 0
	at := max(s.w.now+l.way.draw(), l.last)
	times := 1
	if l.way.lossy > 0 && l.way.rng.Float64() < l.way.lossy {
		l.harmed = true
		switch l.way.rng.IntN(3) {
		case 0:
			times = 0
		case 1:
			times = 2
		default:
			at += between(l.way.rng, 0, time.Second)
			l.last = min(l.last, s.w.now) // what follows may overtake it
		}
	} else {
		l.last = at
	}
	for range times {
		to.after(at-s.w.now, func() {
			if !s.gone[0] && !s.gone[1] {
				fn()
			}
		})
	}
}

// dial opens a stream to a region's leader, and tries for ever while this node leads.
func (n *node) dial(g *group, in time.Duration) {
	n.after(in, func() {
		if !n.leading || n.links[g] != nil {
			return
		}
		there, back := n.w.way(n.g, g), n.w.way(g, n.g)
		server := g.lead()
		if there.cut > 0 || back.cut > 0 || server == nil || server.paused {
			n.dial(g, between(n.g.rng, redialMin, redialMax))
			return
		}
		n.after(there.draw()+back.draw(), func() { n.connect(g, server) })
	})
}

func (n *node) connect(g *group, server *node) {
	there, back := n.w.way(n.g, g), n.w.way(g, n.g)
	if !n.leading || n.links[g] != nil {
		return
	}
	if there.cut > 0 || back.cut > 0 || !server.up || server.paused || !server.leading {
		n.dial(g, between(n.g.rng, redialMin, redialMax))
		return
	}
	s := &stream{
		w: n.w, follower: n, server: server, f: feeds.NewFollower(g.name, n, n.w.forksOf(n, g), n.g.mask&g.mask),
		s: feeds.NewSender(n.g.name, server, n.g.mask&g.mask), forth: lane{way: there}, back: lane{way: back}, heard: n.w.now,
	}
	s.s.Whole = wholePart
	s.s.Brief = n.g.rng.IntN(2) == 0
	n.links[g] = s
	server.served = append(server.served, s)
	s.stops = []func(){
		server.Watch(func(ev []wire.Event) { s.s.Committed(wire.Touched(ev)); s.pump() }),
		n.Watch(func(ev []wire.Event) {
			s.follow(func(time.Time) error { s.f.Applied(wire.Touched(ev)); return nil })
		}),
	}
	n.w.tell("link: %s follows %s", n, server)
	s.beat()
	s.watchSilence()
}

// beat sends heads while the server leads.
func (s *stream) beat() {
	if s.gone[1] {
		return
	}
	if !s.server.leading {
		s.serverGone()
		return
	}
	if have := s.pulse.Beat(feeds.Heads(s.server, s.server.Origins(), s.parts())); have != nil {
		s.send(&s.back, s.follower, func() { s.receive(have) })
	}
	s.pump()
	s.server.after(headsEvery, s.beat)
}

// pump sends what there is to send, soon.
func (s *stream) pump() {
	if s.pumping || s.gone[1] {
		return
	}
	s.pumping = true
	s.server.after(0, func() {
		s.pumping = false
		for !s.gone[1] {
			have, err := s.s.Next()
			if err != nil {
				s.w.violate("feed", "%s cannot read its feed: %v", s.server, err)
				return
			}
			if have == nil {
				return
			}
			s.w.checkServed(s.server, have)
			s.send(&s.back, s.follower, func() { s.receive(have) })
		}
	})
}

// receive is the follower's part.
func (s *stream) receive(have *peerpb.Have) {
	if s.gone[0] || s.follower.links[s.server.g] != s {
		return
	}
	s.heard = s.w.now
	switch {
	case feeds.Beating(have):
		s.heads(have.Heads)
	case have.Records != nil:
		s.w.note("records "+have.Records.Origin, have.Records.From, uint64(len(have.Records.Records)))
		s.follow(func(time.Time) error { return s.f.Records(have.Records, nil) })
	case have.Refused != nil:
		s.follow(func(now time.Time) error { return s.f.Refused(have.Refused, now) })
	case have.Part != nil:
		s.w.note("part "+have.Part.After, uint64(have.Part.Partition), uint64(len(have.Part.Sessions)))
		s.follow(func(now time.Time) error { s.f.Part(have.Part, now); return nil })
	case have.Piece != nil:
		s.w.note("piece "+have.Piece.After, have.Piece.Off, have.Piece.Size)
		s.follow(func(now time.Time) error { s.f.Piece(have.Piece, now); return nil })
	}
}

func (s *stream) heads(h *peerpb.Heads) {
	s.said = s.w.time()
	if !s.known {
		s.known = true
		s.follower.tellAll(s.server)
		s.follower.do(&machine.Command{Kind: machine.KindPeer, Peer: s.server.g.name}, func(machine.Result) {})
	}
	up := map[string]bool{}
	for _, r := range s.w.regions {
		up[r.name] = s.follower.hears(r, s.parts())
	}
	s.follow(func(now time.Time) error {
		s.f.Prefer(s.follower.waits, now)
		return s.f.Heads(h, up, now)
	})
	n, grew := s.follower, false
	n.quiet.Heard(s.server.g.name, s.parts(), s.w.time())
	n.matrix.Told(s.server.g.name, h)
	n.matrix.Named(s.server.g.name, n.g.name, h)
	for _, head := range h.GetHeads() {
		for p, f := range head.F {
			s.w.checkClaim(s.server.g, head.Origin, uint8(p), f)
		}
		grew = n.matrix.Heads(s.server.g.name, h.Epoch, s.parts(), crdt.Origin(head.Origin).ID(), head.F) || grew
	}
	s.w.checkMatrix(n)
	if grew {
		n.reached()
	}
}

// follow has the follower do something, and does what comes of it.
func (s *stream) follow(fn func(now time.Time) error) {
	if s.gone[0] {
		return
	}
	n := s.follower
	err := fn(s.w.time())
	for _, a := range s.f.Take() {
		s.perform(a)
	}
	if err != nil {
		if errors.Is(err, feeds.ErrStuck) && !s.forth.harmed && !s.back.harmed {
			s.w.violate("12 liveness", "%s gives up a stream from %s on which nothing was lost: %v", n, s.server, err)
		}
		s.followerGone()
		return
	}
	due := s.f.Due()
	if in := due.Sub(s.w.time()); !due.IsZero() && (s.tick == nil || s.tick.done || s.w.now+in < s.tick.at) {
		if s.tick != nil {
			s.tick.cancel()
		}
		s.tick = n.after(in, func() {
			s.follow(func(now time.Time) error { s.f.Tick(now); return nil })
		})
	}
}

func (s *stream) perform(a feeds.Action) {
	n := s.follower
	switch {
	case a.Send != nil:
		s.w.checkAcks(n, a.Send)
		s.send(&s.forth, s.server, func() { s.want(a.Send) })
	case a.Commit != nil:
		n.do(&machine.Command{Kind: machine.KindIngest, Records: n.m.Ripe(a.Commit.Records)}, func(r machine.Result) {
			s.follow(func(now time.Time) error { s.f.Done(a.Commit, r.Cursor, r.Err, now); return nil })
		})
	case a.Install != nil:
		if err := machine.CheckSessions(a.Install.Part); err != nil {
			s.w.violate("state", "%s is sent what does not read back: %v", n, err)
		}
		n.do(&machine.Command{Kind: machine.KindInstall, Part: a.Install.Part, From: a.Install.From}, func(r machine.Result) {
			s.follow(func(now time.Time) error { s.f.Installed(a.Install, r.Err, now); return nil })
		})
	case a.Renew != nil:
		n.renewOnce(a.Renew)
	case a.Evict != nil:
		n.noteEvicted(a.Evict)
	case a.Close != nil:
		n.do(&machine.Command{Kind: machine.KindClose, Finals: a.Close}, func(machine.Result) {})
	case a.Event != nil:
		s.w.linkEvent(n, a.Event)
	}
}

// want is the server's part.
func (s *stream) want(w *peerpb.Want) {
	if s.gone[1] {
		return
	}
	grew := false
	if w.Epoch != 0 {
		s.epoch = w.Epoch
	}
	s.s.Want(w, func(f feeds.Feed, cursor uint64) {
		s.w.checkClaim(s.follower.g, string(f.Origin), f.Partition, cursor)
		grew = s.server.matrix.Ack(s.follower.g.name, s.epoch, f.Origin.ID(), f.Partition, cursor) || grew
	})
	for _, a := range s.s.Take() {
		switch {
		case a.Renew != nil:
			s.server.renewOnce(a.Renew)
		case a.Event != nil:
			s.w.linkEvent(s.server, a.Event)
		}
	}
	s.w.checkMatrix(s.server)
	if grew {
		s.server.reached()
	}
	s.pump()
}

// watchSilence gives up a stream on which no heads come.
func (s *stream) watchSilence() {
	s.follower.after(silentAfter/2, func() {
		switch {
		case s.gone[0]:
		case s.w.now-s.heard > silentAfter:
			s.w.tell("link: %s hears nothing of %s", s.follower, s.server)
			s.followerGone()
		default:
			s.watchSilence()
		}
	})
}

// followerGone ends the follower's side; the server's ends when it hears of it, or by time-out.
func (s *stream) followerGone() {
	if s.gone[0] {
		return
	}
	n, g := s.follower, s.server.g
	s.gone[0] = true
	s.stops[1]()
	if n.links[g] == s {
		delete(n.links, g)
	}
	if n.leading {
		n.dial(g, between(n.g.rng, redialMin, redialMax))
	}
	d := 20 * time.Second
	if s.forth.way.cut == 0 && !s.forth.dead {
		d = s.forth.way.draw()
	}
	s.server.after(d, s.serverGone)
}

// serverGone ends the server's side.
func (s *stream) serverGone() {
	if s.gone[1] {
		return
	}
	s.gone[1] = true
	s.stops[0]()
	for i, o := range s.server.served {
		if o == s {
			s.server.served = append(s.server.served[:i:i], s.server.served[i+1:]...)
			break
		}
	}
	if s.back.way.cut == 0 && !s.back.dead {
		s.follower.after(s.back.way.draw(), s.followerGone)
	}
}

// reached is called when other regions have acknowledged more: this node's clients are told, and the other nodes'.
func (n *node) reached() {
	n.door.recheck()
	for _, o := range n.g.nodes {
		if o == n {
			continue
		}
		o.after(mirrorEvery, func() {
			grew := false
			n.matrix.Rows(func(region string, epochs *feeds.Row, id crdt.OriginID, r feeds.Row) {
				for _, row := range feeds.RowsOf(region, epochs, id, &r, feeds.All) {
					more, err := o.matrix.Hear(row)
					if grew = grew || more; err != nil {
						n.w.violate("gossip", "%s: %v", o, err)
					}
				}
			})
			n.w.checkMatrix(o)
			if grew {
				o.door.recheck()
			}
		})
	}
}
