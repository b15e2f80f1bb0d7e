package congestion

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// lookEvery is how often connections are looked at.
const lookEvery = time.Second

// Config says how connections share the network.
type Config struct {
	Name   string                   // a congestion control, Auto, or "" for the machine's own
	Region func(addr string) string // of the node that an address is of, ip:port; "": that is not known
	Logger *slog.Logger             // nil discards
}

// Control makes connections between nodes, and looks after them while they live. There are as many as are open: who opens them bounds them.
type Control struct {
	cfg    Config
	choice choice

	// guarded by mu
	mu   sync.Mutex
	open map[*conn]struct{}
}

// New starts nothing. What Auto lacks on this machine is a warning.
func New(cfg Config) (*Control, error) {
	if err := Check(cfg.Name); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	own, _ := ownName() // Check has asked, where it matters
	c := &Control{cfg: cfg, open: map[*conn]struct{}{}}
	var why error
	if c.choice, why = choose(cfg.Name, own, usable); why != nil {
		cfg.Logger.Warn("--peer-congestion auto: this machine does not let it choose", "links_that_lose", c.choice.lossy, "others", c.choice.clean, "why", why)
	}
	return c, nil
}

// onSocket is for a socket that is not connected yet. Who connects to one that listens gets its congestion control.
func (c *Control) onSocket(_, _ string, raw syscall.RawConn) error {
	if c.choice.clean == "" {
		return nil
	}
	if err := setName(raw, c.choice.clean); err != nil {
		return fmt.Errorf("--peer-congestion %s: %w", c.cfg.Name, err)
	}
	return nil
}

// Listen listens for other nodes.
func (c *Control) Listen(addr string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{Control: c.onSocket}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	return listener{ln, c}, nil
}

// Dial connects to another node.
func (c *Control) Dial(ctx context.Context, addr string) (net.Conn, error) {
	raw, err := (&net.Dialer{Control: c.onSocket}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.watch(raw), nil
}

type listener struct {
	net.Listener
	c *Control
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.c.watch(raw), nil
}

// Run looks at the connections until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			c.look()
		}
	}
}

// look is for one goroutine at a time.
func (c *Control) look() {
	for _, k := range c.conns() {
		if err := k.look(c.choice); err != nil {
			c.forget(k) // it is closed, or this machine does not tell
		}
	}
}

func (c *Control) conns() []*conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*conn, 0, len(c.open))
	for k := range c.open {
		all = append(all, k)
	}
	return all
}

func (c *Control) forget(k *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, k)
}
