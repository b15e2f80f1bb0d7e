// Package peerport shares one TCP port between a region's Raft traffic and gRPC. A Raft connection starts with a
// preamble that names the raft id that it is meant for and proves knowledge of the cluster's secret; whatever starts
// otherwise goes to gRPC, which has its own credentials. A connection meant for another id is refused: who has lost its
// disk is not who it was, even at the same address. Before that word comes a handshake, if the owner has one (TLS). The package
// knows nothing of either protocol beyond that first word.
package peerport

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	magic    = "ROAMRAFT" // gRPC's first byte is P
	firstTLS = 0x16       // the first byte of who speaks TLS
	maxID    = 64         // bytes of a raft id
	// helloTimeout bounds how long a connection may take to say what it is.
	helloTimeout = 5 * time.Second
	// sayEvery is how often at most a refusal is logged; the others are, at debug level.
	sayEvery = time.Second
	// maxUnsorted bounds the connections that have not yet said so; more are closed at once.
	maxUnsorted = 256
)

// Config says how to share a listener.
type Config struct {
	Listener net.Listener
	// Keys authenticate Raft connections: the first is used to dial, all are accepted.
	Keys [][]byte
	// Dial opens a connection to a peer; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Admit shakes hands with who has connected; nil: all there is to know comes in the clear.
	Admit func(ctx context.Context, raw net.Conn) (net.Conn, error)
	// Member refuses an admitted connection for Raft, by who made it; nil: whoever has the secret may.
	Member func(net.Conn) error
	Logger *slog.Logger // nil discards
}

// Port is a shared listener.
type Port struct {
	cfg        Config
	raft, grpc *queue
	unsorted   chan struct{}
	id         atomic.Pointer[string] // this node's raft id, once there is one
	keys       atomic.Pointer[[][]byte]
	said       atomic.Int64 // when a refusal was logged, in ns since 1970

	// guarded by mu
	mu   sync.Mutex
	open map[*tracked]struct{} // Raft's connections: it does not close those that it accepted
}

// tracked is a connection that ends with the port.
type tracked struct {
	net.Conn
	port *Port
}

// Close implements net.Conn.
func (c *tracked) Close() error {
	c.port.mu.Lock()
	delete(c.port.open, c)
	c.port.mu.Unlock()
	return c.Conn.Close()
}

func (p *Port) track(conn net.Conn) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &tracked{conn, p}
	p.open[c] = struct{}{}
	return c
}

func (p *Port) closeTracked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Conn.Close()
	}
}

// New prepares a port and starts nothing.
func New(cfg Config) (*Port, error) {
	if cfg.Listener == nil || len(cfg.Keys) == 0 {
		return nil, errors.New("peerport: a listener and a key are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	addr := cfg.Listener.Addr()
	p := &Port{cfg: cfg, raft: newQueue(addr), grpc: newQueue(addr), unsorted: make(chan struct{}, maxUnsorted),
		open: map[*tracked]struct{}{},
	}
	p.SetKeys(cfg.Keys)
	return p, nil
}

// SetKeys goes on with other keys, at least one. Connections that there are stay.
func (p *Port) SetKeys(keys [][]byte) { p.keys.Store(&keys) }

// GRPC is the listener for gRPC's connections.
func (p *Port) GRPC() net.Listener { return p.grpc }

// Raft is the stream layer for Raft's connections of the node with that raft id. Its addresses are raft ids; resolve
// tells where one listens.
func (p *Port) Raft(id string, resolve func(id string) (addr string, err error)) raft.StreamLayer {
	p.id.Store(&id)
	return streamLayer{p.raft, p, raftAddr(id), resolve}
}

// Run sorts connections until ctx ends, then closes the listener and waits for what it started.
func (p *Port) Run(ctx context.Context) error {
	var sorting sync.WaitGroup
	defer p.closeTracked()
	defer sorting.Wait()
	defer p.raft.Close()
	defer p.grpc.Close()
	stop := context.AfterFunc(ctx, func() { p.cfg.Listener.Close() })
	defer stop()
	for {
		conn, err := p.cfg.Listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept peers: %w", err)
		}
		select {
		case p.unsorted <- struct{}{}:
			sorting.Go(func() { p.sort(ctx, conn) })
		default:
			p.cfg.Logger.Warn("peer connection refused: too many are undecided", "remote", conn.RemoteAddr())
			conn.Close()
		}
	}
}

// sort shakes hands, reads the first bytes and hands the connection on.
func (p *Port) sort(ctx context.Context, raw net.Conn) {
	defer func() { <-p.unsorted }()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	raw.SetDeadline(time.Now().Add(helloTimeout))
	conn := raw
	if p.cfg.Admit != nil {
		var err error
		if conn, err = p.cfg.Admit(ctx, raw); err != nil {
			p.refuse(raw, "peer connection refused", err)
			return
		}
	}
	head := make([]byte, len(magic)+1+sha256.Size)
	if _, err := io.ReadFull(conn, head[:1]); err != nil {
		conn.Close()
		return
	}
	switch head[0] {
	case magic[0]:
		if _, err := io.ReadFull(conn, head[1:]); err != nil {
			conn.Close()
			return
		}
		if err := p.check(conn, head); err != nil {
			p.refuse(conn, "Raft connection refused", err)
			return
		}
		conn.SetDeadline(time.Time{})
		p.raft.put(p.track(conn))
	case firstTLS:
		p.refuse(conn, "peer connection refused", errTLS)
	default:
		conn.SetDeadline(time.Time{})
		p.grpc.put(&prefixed{Conn: conn, head: head[:1]})
	}
}

var errTLS = errors.New("the peer speaks TLS, and this node does not: give this one --tls-ca, --tls-cert and --tls-key, or the peer none")

func (p *Port) refuse(conn net.Conn, what string, why error) {
	level, now, last := slog.LevelError, time.Now().UnixNano(), p.said.Load()
	if now-last < int64(sayEvery) || !p.said.CompareAndSwap(last, now) {
		level = slog.LevelDebug
	}
	p.cfg.Logger.Log(context.Background(), level, what, "remote", conn.RemoteAddr(), "err", why)
	conn.Close()
}

// preamble is the magic word, the length of the id, a proof over both and the id, and the id.
func preamble(key []byte, id string) []byte {
	head := append([]byte(magic), byte(len(id)))
	mac := hmac.New(sha256.New, key)
	mac.Write(head)
	io.WriteString(mac, id)
	return append(mac.Sum(head), id...)
}

func (p *Port) check(conn net.Conn, head []byte) error {
	size := int(head[len(magic)])
	if string(head[:len(magic)]) != magic || size > maxID {
		return errors.New("this is no Raft of this version")
	}
	id := make([]byte, size)
	if _, err := io.ReadFull(conn, id); err != nil {
		return err
	}
	if !p.known(append(head, id...), string(id)) {
		return errors.New("the peer has another --secret-file")
	}
	if own := p.id.Load(); own == nil || *own != string(id) {
		return fmt.Errorf("it is meant for %s, who was at this address before", id)
	}
	if p.cfg.Member != nil {
		return p.cfg.Member(conn)
	}
	return nil
}

func (p *Port) known(shown []byte, id string) bool {
	for _, key := range *p.keys.Load() {
		if hmac.Equal(shown, preamble(key, id)) {
			return true
		}
	}
	return false
}

// prefixed gives back the bytes that were read to sort the connection.
type prefixed struct {
	net.Conn
	head []byte
}

func (c *prefixed) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// PeerName is who is at the other end, "" if that is not known: see Config.Admit.
func (c *prefixed) PeerName() string {
	if named, ok := c.Conn.(interface{ PeerName() string }); ok {
		return named.PeerName()
	}
	return ""
}

// queue is a net.Listener fed by sort. It holds no connections: put waits until one is accepted or it is closed.
type queue struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }

// raftAddr is a raft id, as an address.
type raftAddr string

// Network implements net.Addr.
func (raftAddr) Network() string { return "raft" }

// String implements net.Addr.
func (a raftAddr) String() string { return string(a) }

type streamLayer struct {
	net.Listener
	port    *Port
	addr    raftAddr
	resolve func(string) (string, error)
}

// Addr implements net.Listener.
func (s streamLayer) Addr() net.Addr { return s.addr }

// Dial implements raft.StreamLayer.
func (s streamLayer) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addr, err := s.resolve(string(id))
	if err != nil {
		return nil, err
	}
	conn, err := s.port.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := conn.Write(preamble((*s.port.keys.Load())[0], string(id))); err != nil {
		conn.Close()
		return nil, fmt.Errorf("raft preamble to %s: %w", addr, err)
	}
	conn.SetWriteDeadline(time.Time{})
	return conn, nil
}
