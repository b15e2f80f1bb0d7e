package app

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/roamsync/roam/internal/certs"
	"github.com/roamsync/roam/internal/peerport"
	"github.com/roamsync/roam/wire/peerpb"
)

const (
	entryBytes = 64 << 10 // an entry of Raft at load: some 250 messages
	piece      = 64 << 10 // of a feed, as a sender cuts it
	pieces     = 16
)

// benchPort is a port on loopback that has the certificate of a node, or none.
func benchPort(b *testing.B, p *certs.Peers) (port *peerport.Port, addr string) {
	b.Helper()
	ln, err := net.Listen("tcp", anyPort)
	if err != nil {
		b.Fatal(err)
	}
	cfg := peerport.Config{Listener: ln, Keys: [][]byte{make([]byte, keySize)}, Logger: slog.New(slog.NewTextHandler(b.Output(), nil))}
	if p != nil {
		cfg.Dial, cfg.Admit = p.Dialer(tcp, nobodyKnown), p.Accept
	}
	if port, err = peerport.New(cfg); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- port.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return port, ln.Addr().String()
}

// ratio measures two ways to do the same, turn by turn.
func ratio(b *testing.B, bytes int64, clear, encrypted func() error) {
	b.SetBytes(2 * bytes)
	var took [2]time.Duration
	n := 0
	for b.Loop() {
		for i, do := range []func() error{clear, encrypted} {
			start := time.Now()
			if err := do(); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(start)
		}
		n++
	}
	b.ReportMetric(float64(took[0].Microseconds())/float64(n), "clear-µs")
	b.ReportMetric(float64(took[1].Microseconds())/float64(n), "tls-µs")
	b.ReportMetric(float64(took[1])/float64(took[0]), "tls/clear")
}

// BenchmarkTLSRaft: an entry goes from a leader to a follower that does nothing with it, and is acknowledged.
func BenchmarkTLSRaft(b *testing.B) {
	v := newVault(b)
	send := func(leader, follower *certs.Peers) func() error {
		to, addr := benchPort(b, follower)
		from, _ := benchPort(b, leader)
		resolve := func(string) (string, error) { return addr, nil }
		transport := func(layer raft.StreamLayer) *raft.NetworkTransport {
			return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: layer, MaxPool: 1, Timeout: time.Minute, Logger: hclog.NewNullLogger(),
			})
		}
		takes, gives := transport(to.Raft("f", resolve)), transport(from.Raft("l", resolve))
		stop := make(chan struct{})
		b.Cleanup(func() {
			close(stop)
			gives.Close()
			takes.Close()
		})
		go func() {
			for {
				select {
				case rpc := <-takes.Consumer():
					rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
				case <-stop:
					return
				}
			}
		}()
		entry := &raft.AppendEntriesRequest{Entries: []*raft.Log{{Index: 1, Term: 1, Data: make([]byte, entryBytes)}}}
		return func() error { return gives.AppendEntries("f", "f", entry, &raft.AppendEntriesResponse{}) }
	}
	ratio(b, entryBytes, send(nil, nil), send(v.peers("beijing", "n1"), v.peers("beijing", "n2")))
}

// feeder sends pieces of a feed whenever it is asked for some.
type feeder struct{ peerpb.UnimplementedPeerServer }

func (feeder) Feeds(stream peerpb.Peer_FeedsServer) error {
	have := &peerpb.Have{Records: &peerpb.Records{Records: [][]byte{make([]byte, piece)}}}
	for {
		if _, err := stream.Recv(); err != nil {
			return nil
		}
		for range pieces {
			if err := stream.Send(have); err != nil {
				return err
			}
		}
	}
}

// BenchmarkTLSFeed: 1 MiB of a feed goes from region to region, over gRPC.
func BenchmarkTLSFeed(b *testing.B) {
	v := newVault(b)
	follow := func(here, there *certs.Peers) func() error {
		port, addr := benchPort(b, there)
		srv := grpc.NewServer()
		peerpb.RegisterPeerServer(srv, feeder{})
		go srv.Serve(port.GRPC())
		dial := tcp
		if here != nil {
			dial = here.Dialer(tcp, nobodyKnown)
		}
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(16<<20))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			conn.Close()
			srv.Stop()
		})
		stream, err := peerpb.NewPeerClient(conn).Feeds(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		return func() error {
			if err := stream.Send(&peerpb.Want{}); err != nil {
				return err
			}
			for range pieces {
				if _, err := stream.Recv(); err == io.EOF || err != nil {
					return err
				}
			}
			return nil
		}
	}
	ratio(b, pieces*piece, follow(nil, nil), follow(v.peers("shanghai", "s1"), v.peers("beijing", "n1")))
}
