package region

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// pipes are a stream layer in memory, whose node may be away.
type pipes struct {
	conns chan net.Conn
	to    *pipes
	away  atomic.Bool

	mu   sync.Mutex
	open []net.Conn
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	close(p.conns)
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &loopback{id: "other"} }

// Dial implements raft.StreamLayer.
func (p *pipes) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	if p.to.away.Load() {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	p.to.open = append(p.to.open, there)
	p.to.conns <- there
	return here, nil
}

// cut ends all connections, as the end of a process does.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
}

// transports are a node's transport, whether it leads, and another node's, which answers everything.
func transports(t *testing.T) (tr *transport, other *pipes, leads *atomic.Bool, stop func()) {
	log := slog.New(slog.DiscardHandler)
	there := &pipes{conns: make(chan net.Conn, 8)}
	here := &pipes{conns: make(chan net.Conn), to: there}
	leads, stopping := &atomic.Bool{}, make(chan struct{})
	leads.Store(true)
	at := func(p *pipes) *raft.NetworkTransport {
		return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: p, MaxPool: maxPool, Timeout: raftTimeout, Logger: raftLog(log)})
	}
	tr = &transport{NetworkTransport: at(here), leads: leads.Load, stopping: stopping}
	answering := at(there)
	go func() { // ends with the test's bubble: both transports are closed
		for {
			select {
			case rpc := <-answering.Consumer():
				switch rpc.Command.(type) {
				case *raft.RequestVoteRequest:
					rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
				default:
					rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
				}
			case <-t.Context().Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		tr.CloseStreams()
		answering.CloseStreams()
		if err := errors.Join(tr.Close(), answering.Close()); err != nil {
			t.Error(err)
		}
	})
	return tr, there, leads, func() { close(stopping) }
}

// entries is a call that brings some.
func entries(n int) *raft.AppendEntriesRequest {
	req := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, PrevLogTerm: 1}
	for range n {
		req.Entries = append(req.Entries, &raft.Log{Type: raft.LogCommand})
	}
	return req
}

// TestEntriesWaitForTheirNode: a node that comes back has what was written meanwhile at once, and not when Raft tries again, which it does the more seldom
// the longer the node was away.
func TestEntriesWaitForTheirNode(t *testing.T) {
	for _, c := range []struct {
		what  string
		after func(other *pipes, leads *atomic.Bool, stop func())
		ok    bool
	}{
		{"it comes back", func(other *pipes, _ *atomic.Bool, _ func()) { other.away.Store(false) }, true},
		{"this node does not lead any more", func(_ *pipes, leads *atomic.Bool, _ func()) { leads.Store(false) }, false},
		{"this node stops", func(_ *pipes, _ *atomic.Bool, stop func()) { stop() }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, other, leads, stop := transports(t)
				other.away.Store(true)
				begun := time.Now()
				time.AfterFunc(7*time.Second, func() { c.after(other, leads, stop) })
				err := tr.AppendEntries("other", "other", entries(1), &raft.AppendEntriesResponse{})
				if took := time.Since(begun); (err == nil) != c.ok || took < 7*time.Second || took > 7*time.Second+awayLook {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// TestHeartbeatsDoNotWait: who cannot be reached is known at once.
func TestHeartbeatsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, other, _, _ := transports(t)
		other.away.Store(true)
		begun := time.Now()
		if err := tr.AppendEntries("other", "other", &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{}); err == nil || time.Since(begun) > 0 {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// TestVotesAreAskedForAfresh: all connections that are kept lead to a process that has ended; the one in its place is asked all the same.
func TestVotesAreAskedForAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, other, _, _ := transports(t)
		stale := make(chan error, maxPool)
		for range maxPool { // as many as are kept
			go func() {
				stale <- tr.AppendEntries("other", "other", entries(1), &raft.AppendEntriesResponse{})
			}()
		}
		for range maxPool {
			if err := <-stale; err != nil {
				t.Fatal(err)
			}
		}
		other.cut()
		resp := raft.RequestVoteResponse{}
		if err := tr.RequestVote("other", "other", &raft.RequestVoteRequest{Term: 2}, &resp); err != nil || !resp.Granted {
			t.Errorf("%+v, %v", resp, err)
		}
	})
}

// pipelineTo is a pipeline to the other node.
func pipelineTo(t *testing.T) raft.AppendPipeline {
	t.Helper()
	tr, _, _, _ := transports(t)
	p, err := tr.AppendEntriesPipeline("other", "other")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFullLotEndsThePipeline: who lacks as much as one call may bring is caught up with otherwise.
func TestFullLotEndsThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipelineTo(t)
		defer p.Close()
		if _, err := p.AppendEntries(entries(maxAppend-1), &raft.AppendEntriesResponse{}); err != nil {
			t.Error(err)
		}
		if _, err := p.AppendEntries(entries(maxAppend), &raft.AppendEntriesResponse{}); !errors.Is(err, errBehind) {
			t.Error(err)
		}
	})
}

// TestNobodyTakesTheAnswers: a pipeline ends by itself whose answers nobody takes any more. hashicorp/raft leaves it so after an answer that tells of a newer term, and would wait
// for it when it is shut down.
func TestNobodyTakesTheAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipelineTo(t)
		defer p.Close()
		const lots = 50
		var err error
		for range lots {
			if _, err = p.AppendEntries(entries(1), &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
			<-p.Consumer()
			time.Sleep(handOffLimit / 4)
		}
		begun := time.Now()
		for range lots {
			if _, err = p.AppendEntries(entries(1), &raft.AppendEntriesResponse{}); err != nil {
				break
			}
		}
		if took := time.Since(begun); !errors.Is(err, raft.ErrPipelineShutdown) || took != handOffLimit {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
