// Package redistest gives tests a Redis: miniredis and a real server, which can both be killed and come back empty.
package redistest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// startTimeout bounds how long a server may take to answer.
const startTimeout = 10 * time.Second

// Ports are taken from below those that Linux gives to outgoing connections.
const (
	lowestPort = 12_000
	portCount  = 20_000
	maxTries   = 100
)

// Server is a Redis on a port of its own.
type Server struct {
	addr   string
	start  func(addr string) error
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
	if err := s.start(s.addr); err != nil {
		t.Fatal(err)
	}
}

// first finds a port on which start succeeds.
func first(t testing.TB, start func(addr string) error) *Server {
	t.Helper()
	for range maxTries {
		addr := FreeAddr(t)
		if start(addr) != nil {
			continue // another process was faster
		}
		s := &Server{addr: addr, client: redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})}
		t.Cleanup(func() {
			s.client.Close()
			s.kill()
		})
		return s
	}
	t.Fatalf("no port was free in %d tries", maxTries)
	return nil
}

func mini(t testing.TB) *Server {
	var m *miniredis.Miniredis
	start := func(addr string) error {
		m = miniredis.NewMiniRedis()
		m.ClockTTL(true)
		return m.StartAddr(addr)
	}
	s := first(t, start)
	s.start, s.kill = start, func() { m.Close() }
	return s
}

func real(t testing.TB) *Server {
	var cmd *exec.Cmd
	kill := func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	dir := t.TempDir()
	start := func(addr string) error {
		_, port, _ := net.SplitHostPort(addr)
		cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
		cmd.Stderr = os.Stderr
		noOrphan(cmd)
		if err := cmd.Start(); err != nil {
			return err
		}
		err := await(addr, cmd.Process.Pid)
		if err != nil {
			kill()
		}
		return err
	}
	s := first(t, start)
	s.start, s.kill = start, kill
	return s
}

// await polls until the server with that process id answers: another one on its port would answer too.
func await(addr string, pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	defer c.Close()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		info, err := c.Info(ctx, "server").Result()
		if err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", pid)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer at %s: %w", addr, err)
		case <-poll.C:
		}
		if err == nil {
			return fmt.Errorf("another server answers at %s", addr)
		}
	}
}

// FreeAddr returns a loopback address that nobody listens on, with a port that no outgoing connection is given: it
// stays free while a server is down.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range maxTries {
		addr := fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.IntN(portCount))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatalf("no port was free in %d tries", maxTries)
	return ""
}
