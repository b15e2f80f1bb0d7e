package region

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// awayLook is how often it is tried whether a node that was not there is there again, and awayFor how long one call waits for that.
	awayLook = 50 * time.Millisecond
	awayFor  = 30 * time.Second
)

// transport is Raft's network, with what hashicorp/raft does not do about nodes that come back. After each call that fails it waits twice as
// long until the next, ten seconds in the end, and a node that is there again lacks what was written for that long: if the group needs it for
// a majority, all wait. So a call waits here until its node is there, and fails seldom.
type transport struct {
	*raft.NetworkTransport
	leads    func() bool
	stopping <-chan struct{}
}

// AppendEntries implements raft.Transport. Heartbeats are not waited with: they tell who can be reached.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, to, req, resp)
	if heartbeats(req) {
		return err
	}
	for end := time.Now().Add(awayFor); err != nil && t.leads() && time.Now().Before(end); {
		select {
		case <-time.After(awayLook):
			err = t.NetworkTransport.AppendEntries(id, to, req, resp)
		case <-t.stopping:
			return err
		}
	}
	return err
}

// ending is a stream layer that may be closed before Raft is: the node's port is, when it stops. That is no failure to accept, which Raft would
// log and try again: nothing comes any more until Raft closes the layer, too.
type ending struct {
	raft.StreamLayer
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (e *ending) Accept() (net.Conn, error) {
	conn, err := e.StreamLayer.Accept()
	if errors.Is(err, net.ErrClosed) {
		<-e.closed
	}
	return conn, err
}

// Close implements net.Listener.
func (e *ending) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.StreamLayer.Close()
}

// heartbeats tells a heartbeat from a call that brings entries, or asks how far the other node is.
func heartbeats(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return afresh(func() error { return t.NetworkTransport.RequestVote(id, to, req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return afresh(func() error { return t.NetworkTransport.RequestPreVote(id, to, req, resp) })
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return afresh(func() error { return t.NetworkTransport.TimeoutNow(id, to, req, resp) })
}

// afresh makes a call that is harmless twice, and again if it fails at once: all connections that are kept may be those to a process that has ended since.
// A vote that is lost that way costs another round. One that nobody answers is lost.
func afresh(call func() error) error {
	begun := time.Now()
	err := call()
	for n := 0; n < maxPool && err != nil && time.Since(begun) < raftTimeout/2; n++ {
		err = call()
	}
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return pipeline{p}, nil
}

// pipeline is for nodes that have nearly all. Raft sends no more than maxAppend entries down a pipeline each time that something is written or committed, and
// if the group waits for the node nothing is. Without a pipeline it sends one lot after the other.
type pipeline struct{ raft.AppendPipeline }

// handOffLimit bounds how long a lot waits until those before it have been answered, which is no longer than one exchange may take. hashicorp/raft would wait for ever once
// nobody takes the answers any more: who takes them stops when one tells of a newer term, and does not say so to who sends. Raft would never end then, nor the node.
const handOffLimit = raftTimeout

var errBehind = errors.New("the node lacks too much for a pipeline")

// AppendEntries implements raft.AppendPipeline.
func (p pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if len(req.Entries) >= maxAppend {
		return nil, errBehind
	}
	defer time.AfterFunc(handOffLimit, func() { _ = p.Close() }).Stop()
	return p.AppendPipeline.AppendEntries(req, resp)
}
