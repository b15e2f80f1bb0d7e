package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"
)

// Config is what a Client needs. Regions and Token are required; the zero value of every other field is usable.
type Config struct {
	// Regions is where to connect, the first first. What a region tells in its welcome comes before what is left of it.
	Regions []Region
	// Token gives the token for one connection, and a fresh one before it ends. It may block until ctx ends, and is not called twice at once.
	Token func(ctx context.Context) (string, error)
	// Device names this device among the user's; other devices see it. Empty: a random name.
	Device string
	// Agent tells the region what software this is. Empty: "roam-go".
	Agent string
	// Outbox keeps ops until they are safe. Nil: a MemoryOutbox.
	Outbox Outbox
	// MaxOutbox bounds the ops that are not safe yet, in ops; beyond, puts end with ErrOutboxFull. 0: 1024.
	MaxOutbox int
	// MaxAge is how long after it was put an op may be put again; what is older then ends with ErrExpired. It is to be less than the regions'
	// --removed-ttl, by as much as clocks may differ. 0: 29 days, which fits to the default of that.
	MaxAge time.Duration
	// Dial makes a connection. Nil: a WebSocket with subprotocol roam.v1.json.
	Dial func(ctx context.Context, url string) (Conn, error)
	// DialTimeout bounds one try to connect. 0: 10 s.
	DialTimeout time.Duration
	// Dice returns uniform numbers in [0, 1), for the jitter of reconnects. Nil: math/rand/v2.
	Dice func() float64
	// Logger gets what a person may want to know. Nil: nothing is logged.
	Logger *slog.Logger
}

// Conn carries messages to and from a region. Read and Write may run at once, and Close at any time, which ends
// both. An error that wraps a websocket.CloseError tells the region's close code.
type Conn interface {
	Read(ctx context.Context) ([]byte, error)
	Write(ctx context.Context, message []byte) error
	// Close says goodbye with a close code; code 0 drops the connection at once. It is called once.
	Close(code int, reason string) error
}

const defaultMaxOutbox = 1024

func (c *Config) check() error {
	var errs []error
	if len(c.Regions) == 0 || len(c.Regions) > maxRegions {
		errs = append(errs, fmt.Errorf("Regions: 1 to %d are needed", maxRegions))
	}
	for _, r := range c.Regions {
		u, err := url.Parse(r.URL)
		if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
			errs = append(errs, fmt.Errorf("Regions: %q at %q: a ws:// or wss:// URL is needed", r.Name, r.URL))
		}
	}
	if c.Token == nil {
		errs = append(errs, errors.New("a Token is required"))
	}
	if c.MaxOutbox < 0 {
		errs = append(errs, fmt.Errorf("MaxOutbox %d: not below 0", c.MaxOutbox))
	}
	if c.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("MaxAge %s: not below 0", c.MaxAge))
	}
	if c.DialTimeout < 0 {
		errs = append(errs, fmt.Errorf("DialTimeout %s: not below 0", c.DialTimeout))
	}
	return errors.Join(errs...)
}
