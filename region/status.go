package region

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire"
)

// Status is a region as one of its nodes sees it. Indexes are Raft's.
type Status struct {
	ID       string       `json:"id"`     // raft id of this node
	Leader   string       `json:"leader"` // raft id, "" for none
	Leads    bool         `json:"leads"`  // this node does
	Term     uint64       `json:"term"`
	Applied  uint64       `json:"applied"`
	FirstLog uint64       `json:"first_log"` // what is below can only be had as a whole state
	LastLog  uint64       `json:"last_log"`
	Level    uint32       `json:"level"` // newest format of a Raft entry that this node applies
	Nodes    []NodeStatus `json:"nodes"`
}

// NodeStatus is what is known of one node of the region.
type NodeStatus struct {
	Node    string `json:"node"`
	ID      string `json:"id"`
	Addr    string `json:"addr"` // "" if membership does not know it
	Role    string `json:"role"` // "leader", "voter", "follower without a vote" or "not in the group"
	Alive   bool   `json:"alive"`
	Applied uint64 `json:"applied"`
	Level   uint32 `json:"level"`
	Error   string `json:"error,omitempty"` // why it did not answer
}

// Status asks all nodes of the region, each for at most a second.
func (r *Region) Status(ctx context.Context) Status {
	leader, _ := r.leader.now()
	s := Status{
		ID: r.id, Leader: leader, Leads: r.leading.Load(), Term: r.raft.CurrentTerm(), Applied: r.fsm.Applied(),
		LastLog: r.raft.LastIndex(), Level: machine.FeatureLevel,
	}
	s.FirstLog, _ = r.log.FirstIndex() // 0 if it cannot be read: the process ends then anyway
	members := []wire.Member{{Node: r.cfg.Node, ID: r.id, Alive: true}}
	if r.cfg.Cluster != nil {
		members = r.cfg.Cluster.Members()
	}
	for _, m := range members {
		s.Nodes = append(s.Nodes, NodeStatus{Node: m.Node, ID: m.ID, Addr: m.Addr, Alive: m.Alive, Role: "not in the group"})
	}
	for _, srv := range r.servers() {
		i := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.ID == string(srv.ID) })
		if i < 0 {
			s.Nodes = append(s.Nodes, NodeStatus{Node: nodeOf(srv.ID), ID: string(srv.ID)})
			i = len(s.Nodes) - 1
		}
		s.Nodes[i].Role = role(srv, leader)
	}
	var asking sync.WaitGroup
	for i := range s.Nodes {
		asking.Go(func() { r.ask(ctx, &s.Nodes[i]) })
	}
	asking.Wait()
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int { return strings.Compare(a.ID, b.ID) })
	return s
}

func role(s raft.Server, leader string) string {
	switch {
	case string(s.ID) == leader:
		return "leader"
	case s.Suffrage == raft.Voter:
		return "voter"
	}
	return "follower without a vote"
}

func (r *Region) ask(ctx context.Context, n *NodeStatus) {
	switch {
	case n.ID == r.id:
		n.Applied, n.Level = r.fsm.Applied(), machine.FeatureLevel
	case n.Addr == "":
		n.Error = "membership does not know it"
	default:
		hello, err := r.hello(ctx, wire.Member{Node: n.Node, ID: n.ID, Addr: n.Addr})
		if err != nil {
			n.Error = err.Error()
			return
		}
		n.Applied, n.Level = hello.Applied, hello.Level
	}
}
