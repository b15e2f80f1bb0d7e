package region

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// Status is a region as one of its nodes sees it. Indexes are Raft's; those outside of Groups are of the first group.
type Status struct {
	ID       string `json:"id"`     // raft id of this node
	Leader   string `json:"leader"` // raft id, "" for none
	Leads    bool   `json:"leads"`  // this node does
	Term     uint64 `json:"term"`
	Applied  uint64 `json:"applied"`
	FirstLog uint64 `json:"first_log"` // what is below can only be had as a whole state
	LastLog  uint64 `json:"last_log"`
	Level    uint32 `json:"level"` // newest format of a Raft entry that this node applies
	// Committed is the region's feature level, up to which entries are proposed, and Size how many nodes are wanted to vote.
	Committed uint32 `json:"committed_level"`
	Size      int    `json:"size"`
	// Pending is what is wanted of the nodes and not so yet, in words.
	Pending []string      `json:"pending"`
	Disk    Space         `json:"disk"` // of this node
	Groups  []GroupStatus `json:"groups"`
	Nodes   []NodeStatus  `json:"nodes"`
	// Floors are the feeds of which the oldest records are not kept any more: origin, and by partition the last that went.
	Floors map[string]map[int]uint64 `json:"floors,omitempty"`
	// Transfers are those of partitions' states from other regions that are under way, or were cut short.
	Transfers []machine.Transfer `json:"transfers,omitempty"`
}

// GroupStatus is one Raft group as this node sees it.
type GroupStatus struct {
	Group      int    `json:"group"`
	Partitions [2]int `json:"partitions"` // first and last
	Leader     string `json:"leader"`
	Leads      bool   `json:"leads"`
	Origin     string `json:"origin"` // under which it issues, "" before the first
	Term       uint64 `json:"term"`
	Applied    uint64 `json:"applied"`
	FirstLog   uint64 `json:"first_log"`
	LastLog    uint64 `json:"last_log"`
}

// NodeStatus is what is known of one node of the region.
type NodeStatus struct {
	Node    string `json:"node"`
	ID      string `json:"id"`
	Addr    string `json:"addr"` // "" if membership does not know it
	Role    string `json:"role"` // "leader", "voter", "follower without a vote" or "not in the group"
	Alive   bool   `json:"alive"`
	Applied uint64 `json:"applied"` // in all groups together
	Leads   []int  `json:"leads"`   // groups
	Level   uint32 `json:"level"`
	Error   string `json:"error,omitempty"` // why it did not answer
	// Taking is how far it has come with the states of groups that it takes from other nodes.
	Taking []Taking `json:"taking,omitempty"`
}

// statusWait is how long the other nodes are waited for, all at the same time, when an operator asks: less than a client of its own would wait.
const statusWait = 500 * time.Millisecond

// Status asks all nodes of the region, and says which have not answered within half a second.
func (r *Region) Status(ctx context.Context) Status {
	s := Status{ID: r.id, Level: r.cfg.level, Committed: r.level(), Size: r.size(), Disk: r.Space(), Groups: r.groupStatus()}
	r.feedStatus(&s)
	if len(s.Groups) > 0 {
		g := s.Groups[0]
		s.Leader, s.Leads, s.Term, s.Applied, s.FirstLog, s.LastLog = g.Leader, g.Leads, g.Term, g.Applied, g.FirstLog, g.LastLog
	}
	members := []wire.Member{{Node: r.cfg.Node, ID: r.id, Alive: true}}
	if r.cfg.Cluster != nil {
		members = r.cfg.Cluster.Members()
	}
	for _, m := range members {
		s.Nodes = append(s.Nodes, NodeStatus{Node: m.Node, ID: m.ID, Addr: m.Addr, Alive: m.Alive, Role: roleNone})
	}
	for n, g := range r.all()[:len(s.Groups)] {
		for _, srv := range g.servers() {
			s.serves(srv, n)
		}
	}
	outs, _ := r.outs()                                            // an error ends the node
	s.Nodes = slices.DeleteFunc(s.Nodes, func(n NodeStatus) bool { // membership remembers who has left for good
		return !n.Alive && n.Role == roleNone && outs[n.ID] == machine.OutLeft
	})
	r.askAll(ctx, s.Nodes)
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int { return strings.Compare(a.ID, b.ID) })
	s.Pending = r.pending(s.Nodes)
	return s
}

func (r *Region) groupStatus() []GroupStatus {
	all := []GroupStatus{}
	for _, g := range r.all() {
		leader, _ := g.leader.now()
		s := GroupStatus{
			Group: g.n, Partitions: [2]int{bits.TrailingZeros64(g.mask), bits.Len64(g.mask) - 1}, Leader: leader, Leads: g.leading.Load(),
			Origin: string(g.fsm.Self()), Term: g.raft.CurrentTerm(), Applied: g.fsm.Applied(), LastLog: g.raft.LastIndex(),
		}
		s.FirstLog, _ = g.log.FirstIndex() // 0 if it cannot be read: the process ends then anyway
		all = append(all, s)
	}
	return all
}

// serves notes what a node is to a group: the most that it is to any is its role.
func (s *Status) serves(srv raft.Server, group int) {
	i := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.ID == string(srv.ID) })
	if i < 0 {
		s.Nodes = append(s.Nodes, NodeStatus{Node: nodeOf(srv.ID), ID: string(srv.ID)})
		i = len(s.Nodes) - 1
	}
	n := &s.Nodes[i]
	switch {
	case n.ID == s.Groups[group].Leader:
		n.Role, n.Leads = roleLeader, append(n.Leads, group)
	case srv.Suffrage == raft.Voter && n.Role != roleLeader:
		n.Role = "voter"
	case n.Role != roleLeader && n.Role != "voter":
		n.Role = "follower without a vote"
	}
}

const (
	roleLeader = "leader"
	roleNone   = "not in the group"
)

// askAll asks nodes at the same time.
func (r *Region) askAll(ctx context.Context, nodes []NodeStatus) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusWait, fmt.Errorf("it has not answered within %s: it hangs, or the way to it does", statusWait))
	defer cancel()
	var asking sync.WaitGroup
	for i := range nodes {
		asking.Go(func() { r.ask(ctx, &nodes[i]) })
	}
	asking.Wait()
}

func (r *Region) ask(ctx context.Context, n *NodeStatus) {
	switch {
	case n.ID == r.id:
		for _, g := range r.all() {
			n.Applied += g.fsm.Applied()
			if t := g.taking.Load(); t != nil {
				n.Taking = append(n.Taking, *t)
			}
		}
		n.Level = r.cfg.level
	case !n.Alive && n.Role == roleNone:
		n.Error = "it is gone, and not in the group"
	case n.Addr == "":
		n.Error = "membership does not know it"
	default:
		hello, err := r.hello(ctx, wire.Member{Node: n.Node, ID: n.ID, Addr: n.Addr})
		switch {
		case err != nil && ctx.Err() != nil:
			n.Error = context.Cause(ctx).Error()
			return
		case err != nil:
			n.Error = status.Convert(err).Message()
			return
		}
		for g := range r.all() {
			s := stateOf(hello, g)
			n.Applied += s.Applied
			if t := s.Taking; t != nil {
				n.Taking = append(n.Taking, Taking{g, t.From, t.Keys, t.Bytes, t.Own, t.Seconds, t.Tries})
			}
		}
		n.Level = hello.Level
	}
}
