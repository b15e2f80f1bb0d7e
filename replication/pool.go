package replication

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/replication/feeds"
	"github.com/roamsync/roam/wire"
)

// Roster is what the region has committed of other regions.
type Roster interface {
	Peers() []string
	AddPeer(ctx context.Context, region string) error
	// Evictions are the regions that were given up, as the group of a partition knows.
	Evictions(partition uint8) crdt.Evictions
	// Self is what the region numbers under in a partition; "": nothing.
	Self(partition uint8) crdt.Origin
}

// PoolConfig says who this node is and whom it knows.
type PoolConfig struct {
	Region, Node string
	BindAddr     string // host:port for gossip, TCP and UDP; port 0 takes a free one
	// AdvertiseHost is the name or IP that others reach BindAddr's port by; empty is BindAddr's host.
	AdvertiseHost string
	PeerAddr      string   // where other nodes reach this one for Raft and gRPC
	ID            string   // raft id
	ClientURL     string   // where clients reach this region
	Gateway       bool     // this node holds no data: it serves clients through those that do
	Join          []string // gossip addresses of others
	Keys          [][]byte // encrypt gossip: the first is used, all are accepted
	Roster        Roster
	Transport     memberlist.Transport // nil: the machine's network
	Clock         Clock                // nil: nobody is told what it shows
	Logger        *slog.Logger
	Metrics       prometheus.Registerer
	Identify      func(ctx context.Context, peerAddr string) (instance uint64, err error) // asks who answers there
	Instance      uint64                                                                  // what this process answers
}

const (
	rejoinEvery = 2 * time.Second
	// levelEvery is how often all that a node knows of membership is levelled with any other's. Within a region that happens every
	// rejoinEvery, and with another one when the link to it comes up: whoever restarted hears soon of those who never noticed.
	levelEvery = time.Minute
	// probeEvery is how often a node looks whether another one, whichever, is alive: most of what membership costs between regions
	// while nothing happens. A node that fails is known to be gone after suspicion times that, and some seconds.
	probeEvery   = 1500 * time.Millisecond
	suspicion    = 3
	leaveTimeout = 500 * time.Millisecond
	// forgetDead is how long the dead are gossiped about; seeds are joined again for ever all the same.
	forgetDead   = time.Minute
	addPeerLimit = 5 * time.Second
	askTimeout   = 2 * time.Second
)

// Pool is the membership of all regions. See NewPool.
type Pool struct {
	cfg      PoolConfig
	began    int64 // when the process began, or nearly, ms since 1970
	list     *memberlist.Memberlist
	addr     string
	matrix   *matrix
	fatal    chan error
	changed  chan struct{}
	joined   chan struct{}
	greeted  chan greeted
	conflict *prometheus.CounterVec
	ring     *memberlist.Keyring
	waits    waits
	spread   atomic.Pointer[spread] // nil: this node has no links, and tells nobody anything

	// guarded by mu
	mu       sync.Mutex
	settled  bool
	peers    map[string]peer     // node name -> as last heard; kept when memberlist forgets it
	met      map[string]struct{} // regions committed or seen
	ever     []string            // the other regions of met and peers, in order, never changed; nil: to be found out
	owed     map[string]struct{} // seeds that have not answered yet
	evicted  crdt.Evictions      // as the watchers of the matrix were last told
	doubted  uint64              // partitions in which that was in doubt then, a bit each
	claims   map[string]claim    // names of other nodes that a second address claims
	levelled feeds.Again         // when all that is known of the matrix was told last
}

// peer is another node.
type peer struct {
	Region string
	Node   string
	ID     string // raft id
	Addr   string // for gRPC
	URL    string // for clients
	Gossip string
	Start  int64 // of its process, ms since 1970 by its clock; 0: it does not say
	Alive  bool
	// Gateway is set for a node that holds no data.
	Gateway bool
}

// meta is what a member says of itself: JSON, well under memberlist's 512 bytes.
type meta struct {
	ID   string `json:"i"`
	Peer string `json:"p"`
	URL  string `json:"u"`
	// Gateway is set for a node that holds no data.
	Gateway bool `json:"g,omitempty"`
	// Start is when the process began, ms since 1970. 0: an older version, which does not say.
	Start int64 `json:"b,omitempty"`
}

// NewPool takes the gossip address. Run makes it work.
func NewPool(cfg PoolConfig) (*Pool, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	p := &Pool{
		cfg: cfg, began: time.Now().UnixMilli(), matrix: newMatrix(), fatal: make(chan error, 1), changed: make(chan struct{}, 1),
		joined: make(chan struct{}), greeted: make(chan greeted, maxGreeted), peers: map[string]peer{}, met: map[string]struct{}{}, owed: map[string]struct{}{}, claims: map[string]claim{},
		conflict: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_replication_gossip_refused_total", Help: "Members that were not taken, by reason.",
		}, []string{"reason"}),
	}
	cfg.Metrics.MustRegister(p.conflict)
	for _, j := range cfg.Join {
		p.owed[j] = struct{}{}
	}
	for _, r := range cfg.Roster.Peers() {
		p.met[r] = struct{}{}
	}
	mc, err := p.memberlistConfig()
	if err != nil {
		return nil, err
	}
	if p.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", cfg.BindAddr, err)
	}
	// Taken once: memberlist changes its nodes while others may read them.
	p.addr = net.JoinHostPort(mc.BindAddr, strconv.Itoa(mc.BindPort))
	if mc.BindPort == 0 || cfg.AdvertiseHost != "" {
		p.addr = p.list.LocalNode().Address()
	}
	return p, nil
}

func (p *Pool) memberlistConfig() (*memberlist.Config, error) {
	host, port, err := net.SplitHostPort(p.cfg.BindAddr)
	if err != nil {
		return nil, err
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name = p.cfg.Region + "/" + p.cfg.Node
	mc.BindAddr = host
	if mc.BindPort, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("gossip port: %w", err)
	}
	mc.AdvertisePort = mc.BindPort
	if mc.AdvertiseAddr, err = advertise(p.cfg.AdvertiseHost); err != nil {
		return nil, err
	}
	mc.ProbeInterval, mc.ProbeTimeout, mc.SuspicionMult = probeEvery, time.Second, suspicion
	mc.TCPTimeout = 3 * time.Second
	mc.PushPullInterval = levelEvery
	mc.GossipToTheDeadTime = forgetDead
	mc.DeadNodeReclaimTime = time.Second
	mc.EnableCompression = false
	mc.Transport = p.cfg.Transport
	mc.LogOutput = gossipLog{p}
	mc.Delegate, mc.Events, mc.Conflict = p, p, p
	if p.cfg.Clock != nil {
		mc.Ping = pings{p.cfg.Clock}
	}
	ring, err := memberlist.NewKeyring(p.cfg.Keys[1:], p.cfg.Keys[0])
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	mc.Keyring, p.ring = ring, ring
	return mc, nil
}

// Close releases a pool that never ran.
func (p *Pool) Close() error { return p.list.Shutdown() }

// Addr is the gossip address, with the port that was taken.
func (p *Pool) Addr() string { return p.addr }

// Run joins the seeds, and again whenever one is missing, until ctx ends or this node must not be here.
func (p *Pool) Run(ctx context.Context) error {
	defer func() {
		if err := errors.Join(p.list.Leave(leaveTimeout), p.list.Shutdown()); err != nil {
			p.cfg.Logger.Debug("leave", "err", err)
		}
	}()
	again := time.NewTicker(rejoinEvery)
	defer again.Stop()
	var telling sync.WaitGroup
	defer telling.Wait()
	p.join(ctx, true)
	p.announce(&telling)
	close(p.joined)
	for {
		p.record(ctx)
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.fatal:
			return err
		case <-p.changed:
		case <-again.C:
			p.join(ctx, false)
			p.level(p.cfg.Region, "")
			p.settleNames(time.Now())
			p.recount()
		case g := <-p.greeted:
			p.level(g.region, g.addr)
		}
	}
}

// Joined is closed when every seed was tried once.
func (p *Pool) Joined() <-chan struct{} { return p.joined }

// Settle ends the start: from now on a conflict is the other node's mistake. It returns the reason if this node must
// not be here.
func (p *Pool) Settle() error {
	select {
	case err := <-p.fatal:
		return err
	default:
	}
	met := p.cfg.Roster.Peers() // the log is replayed by now: a crash may have hidden some from New
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range met {
		p.met[r] = struct{}{}
	}
	p.settled, p.ever = true, nil
	select {
	case p.changed <- struct{}{}: // regions met before the region could commit are recorded now
	default:
	}
	return nil
}

// record commits that regions were met, so that a restart remembers whom to wait for.
func (p *Pool) record(ctx context.Context) {
	p.mu.Lock()
	var fresh []string
	for _, m := range p.peers {
		if _, ok := p.met[m.Region]; !ok && m.Region != p.cfg.Region {
			fresh = append(fresh, m.Region)
		}
	}
	p.mu.Unlock()
	for _, r := range fresh {
		ctx, cancel := context.WithTimeout(ctx, addPeerLimit)
		err := p.cfg.Roster.AddPeer(ctx, r)
		cancel()
		if err != nil {
			continue // not the leader, or not yet: it is tried again
		}
		p.mu.Lock()
		p.met[r], p.ever = struct{}{}, nil
		p.mu.Unlock()
	}
}

// Reach implements gateway.Peers.
func (p *Pool) Reach(dot crdt.Dot) wire.Reach {
	holders := p.matrix.holders(dot, p.cfg.Region, p.cfg.Roster.Evictions(dot.Partition))
	return feeds.Reach(holders, p.configured(), func() bool { return p.doubts(dot.Partition) })
}

// WatchReach implements gateway.Peers.
func (p *Pool) WatchReach(fn func()) (stop func()) { return p.matrix.watch(fn) }

// Regions implements gateway.Peers: this one, and every other that was heard of. Of this one's nodes, this comes first, and then who started last: who
// was restarted will not be so soon.
func (p *Pool) Regions() []wire.RegionInfo {
	own := peer{Region: p.cfg.Region, URL: p.cfg.ClientURL, Alive: true}
	var all []wire.RegionInfo
	others := p.known(func(m peer) bool { return m.Region != p.cfg.Region || !m.Alive })
	for _, m := range slices.Concat([]peer{own}, lastStarted(p.mates()), others) {
		i := slices.IndexFunc(all, func(r wire.RegionInfo) bool { return r.Name == m.Region })
		if i < 0 {
			all = append(all, wire.RegionInfo{Name: m.Region, URL: m.URL, State: "down"})
			i = len(all) - 1
		}
		if m.Alive { // the live come first
			all[i].State = "up"
			if !slices.Contains(all[i].URLs, m.URL) {
				all[i].URLs = append(all[i].URLs, m.URL)
			}
		}
	}
	for i := range all {
		if len(all[i].URLs) < 2 {
			all[i].URLs = nil
		}
	}
	slices.SortFunc(all, func(a, b wire.RegionInfo) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Members are the nodes of this region that hold data, this one included.
func (p *Pool) Members() []wire.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []wire.Member
	if !p.cfg.Gateway {
		all = append(all, wire.Member{Node: p.cfg.Node, ID: p.cfg.ID, Addr: p.cfg.PeerAddr, Alive: true})
	}
	for _, m := range p.peers {
		if m.Region == p.cfg.Region && !m.Gateway {
			all = append(all, wire.Member{Node: m.Node, ID: m.ID, Addr: m.Addr, Alive: m.Alive})
		}
	}
	return all
}

// others returns the nodes of other regions that hold data, the live first.
func (p *Pool) others() []peer {
	return p.known(func(m peer) bool { return m.Region != p.cfg.Region && !m.Gateway })
}

// DataNodes are the peer addresses of this region's other nodes that hold data and are alive.
func (p *Pool) DataNodes() (addrs []string) {
	for _, m := range p.known(func(m peer) bool { return m.Region == p.cfg.Region && !m.Gateway && m.Alive }) {
		addrs = append(addrs, m.Addr)
	}
	return addrs
}

// known returns the other nodes that were heard of and fit, the live first.
func (p *Pool) known(fits func(peer) bool) []peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []peer
	for _, m := range p.peers {
		if fits(m) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b peer) int {
		if a.Alive != b.Alive {
			if a.Alive {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Region+"/"+a.Node, b.Region+"/"+b.Node)
	})
	return all
}

// NodeMeta implements memberlist.Delegate.
func (p *Pool) NodeMeta(limit int) []byte {
	b, err := json.Marshal(meta{ID: p.cfg.ID, Peer: p.cfg.PeerAddr, URL: p.cfg.ClientURL, Gateway: p.cfg.Gateway, Start: p.began})
	if err != nil || len(b) > limit {
		p.fail(fmt.Errorf("--advertise-url is too long for gossip: at most some 400 bytes"))
		return nil
	}
	return b
}

// NotifyJoin implements memberlist.EventDelegate.
func (p *Pool) NotifyJoin(n *memberlist.Node) { p.heard(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (p *Pool) NotifyUpdate(n *memberlist.Node) { p.heard(n, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (p *Pool) NotifyLeave(n *memberlist.Node) { p.heard(n, false) }

func (p *Pool) heard(n *memberlist.Node, alive bool) {
	region, node, ok := strings.Cut(n.Name, "/")
	if !ok || !crdt.ValidRegion(region) || n.Name == p.cfg.Region+"/"+p.cfg.Node {
		return
	}
	var m meta
	if err := json.Unmarshal(n.Meta, &m); err != nil {
		p.conflict.WithLabelValues("metadata").Inc()
		return
	}
	p.mu.Lock()
	p.ever = nil
	p.peers[n.Name] = peer{Region: region, Node: node, ID: m.ID, Addr: m.Peer, URL: m.URL, Gossip: n.Address(), Alive: alive, Gateway: m.Gateway, Start: m.Start}
	p.mu.Unlock()
	p.cfg.Logger.Info("member", "name", n.Name, "alive", alive, "peer", m.Peer)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// NotifyConflict implements memberlist.ConflictDelegate: two addresses claim one name.
func (p *Pool) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name != p.cfg.Region+"/"+p.cfg.Node {
		p.contest(existing.Name, other.Address())
		return
	}
	p.mu.Lock()
	settled := p.settled
	p.mu.Unlock()
	p.conflict.WithLabelValues("name").Inc()
	if settled {
		p.cfg.Logger.Error("another node uses this node's name", "name", existing.Name, "address", other.Address())
		return
	}
	var m meta
	if json.Unmarshal(other.Meta, &m) != nil || m.Peer == "" {
		return
	}
	go p.challenge(existing.Name, other.Address(), m.Peer) // short: bounded by askTimeout, and harmless after the end
}

// challenge asks whether the other one is alive, or what is left of this node's last run elsewhere.
func (p *Pool) challenge(name, addr, peerAddr string) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	instance, err := p.cfg.Identify(ctx, peerAddr)
	if err == nil && instance != p.cfg.Instance {
		p.fail(fmt.Errorf("node name %s is already used by a live node at %s: give this node another --node", name, addr))
	}
}

func (p *Pool) fail(err error) {
	select {
	case p.fatal <- err:
	default:
	}
}

// gossipLog passes memberlist's lines on, and says in words what a line about keys means.
type gossipLog struct{ p *Pool }

func (g gossipLog) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	switch {
	case strings.Contains(line, "decrypt"):
		g.p.conflict.WithLabelValues("secret").Inc()
		g.p.cfg.Logger.Error("a member uses another --secret-file: it must be the same in every region", "gossip", line)
	case strings.Contains(line, "[ERR]"):
		g.p.cfg.Logger.Warn("gossip", "line", line)
	default:
		g.p.cfg.Logger.Debug("gossip", "line", line)
	}
	return len(b), nil
}
