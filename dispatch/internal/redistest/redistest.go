// Package redistest gives tests a Redis: miniredis and a real server, which can both be killed and come back empty.
package redistest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// startTimeout bounds how long a server may take to answer.
const startTimeout = 10 * time.Second

// Server is a Redis on a port of its own.
type Server struct {
	addr   string
	start  func(t testing.TB)
	kill   func()
	client *redis.Client
}

// Each runs a test against miniredis and against redis-server.
func Each(t *testing.T, test func(t *testing.T, s *Server)) {
	t.Run("miniredis", func(t *testing.T) { test(t, mini(t)) })
	t.Run("redis", func(t *testing.T) { test(t, real(t)) })
}

// URL is where the server listens, dead or alive.
func (s *Server) URL() string { return "redis://" + s.addr }

// Client returns a client for the test's own commands.
func (s *Server) Client() *redis.Client { return s.client }

// Kill ends the server without notice; what it held is lost.
func (s *Server) Kill() { s.kill() }

// Start starts a killed server, empty, where it was.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.start(t)
}

func newServer(t testing.TB, addr string) *Server {
	s := &Server{addr: addr, client: redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})}
	t.Cleanup(func() {
		s.client.Close()
		s.kill()
	})
	return s
}

func mini(t testing.TB) *Server {
	s := newServer(t, freeAddr(t))
	var m *miniredis.Miniredis
	s.start = func(t testing.TB) {
		t.Helper()
		m = miniredis.NewMiniRedis()
		m.ClockTTL(true)
		if err := m.StartAddr(s.addr); err != nil {
			t.Fatalf("miniredis: %v", err)
		}
	}
	s.kill = func() { m.Close() }
	s.start(t)
	return s
}

func real(t testing.TB) *Server {
	s := newServer(t, freeAddr(t))
	var cmd *exec.Cmd
	_, port, _ := net.SplitHostPort(s.addr)
	dir := t.TempDir()
	s.start = func(t testing.TB) {
		t.Helper()
		cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatalf("redis-server: %v", err)
		}
		s.await(t)
	}
	s.kill = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	s.start(t)
	return s
}

// await polls until the server answers.
func (s *Server) await(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		err := s.client.Ping(ctx).Err()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("redis-server does not answer: %v", err)
		case <-poll.C:
		}
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
