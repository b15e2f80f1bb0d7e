package peerport

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log that a test can read while others write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func start(t *testing.T, log io.Writer, keys ...[]byte) *Port {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Listener: ln, Keys: keys, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func echo(t *testing.T, ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	io.Copy(conn, conn)
}

func ask(t *testing.T, conn net.Conn, say string) string {
	t.Helper()
	defer conn.Close()
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	conn.(interface{ CloseWrite() error }).CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestConnectionsGoWhereTheyBelong(t *testing.T) {
	oldKey, newKey := []byte("old"), []byte("new")
	server := start(t, io.Discard, newKey, oldKey)
	client := start(t, io.Discard, oldKey)
	go echo(t, server.Raft("n1.aaa", nil))
	go echo(t, server.GRPC())
	conn, err := dialRaft(client, server, "n1.aaa")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, "vote"); got != "vote" {
		t.Errorf("raft got %q", got)
	}
	conn, err = net.Dial("tcp", server.GRPC().Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, "PRI * HTTP/2.0"); got != "PRI * HTTP/2.0" {
		t.Errorf("gRPC got %q", got)
	}
}

// dialRaft connects to what listens at the server's address, as Raft does to the node with that id.
func dialRaft(client, server *Port, id string) (net.Conn, error) {
	layer := client.Raft("n2.bbb", func(string) (string, error) { return server.GRPC().Addr().String(), nil })
	return layer.Dial(raft.ServerAddress(id), time.Minute)
}

// TestRefused: whoever has another secret, or means someone who was at this address before, is not let in, and the
// log says why.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ key, id, says string }{
		{"theirs", "n1.aaa", "--secret-file"},
		{"ours", "n1.old", "meant for n1.old"},
	} {
		var log lines
		server := start(t, &log, []byte("ours"))
		server.Raft("n1.aaa", nil)
		conn, err := dialRaft(start(t, io.Discard, []byte(c.key)), server, c.id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s, %s: the connection was taken", c.key, c.id)
		}
		conn.Close()
		if !strings.Contains(log.String(), c.says) {
			t.Errorf("the log does not say %q: %s", c.says, log.String())
		}
	}
}
