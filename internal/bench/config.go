package bench

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config says what to load, and how. All fields are needed unless they say otherwise.
type Config struct {
	URLs        []string // ws:// or wss://, path included; devices of a session are spread over them in turn
	Token       func(user string) (string, error)
	Connections int
	Devices     int     // of one session, each with a connection of its own
	Rate        float64 // ops a second, over all connections
	Duration    time.Duration
	Warmup      time.Duration // comes before Duration and is not measured; may be 0
	Payload     int           // bytes of a message's text
	Mix         Mix
	Constant    bool // constant spacing instead of a Poisson process
	Seed        uint64
	Progress    io.Writer     // nil: none
	Every       time.Duration // between lines of progress
}

// Mix is the share of each kind of op, in percent.
type Mix [kinds]int

type kind uint8

const (
	kindPut  kind = iota // a message
	kindSet              // a setting
	kindRead             // a read mark
	kindChat             // a message with a question, and its streamed answer
	kinds
)

var kindNames = [kinds]string{"put", "set", "read", "chat"}

// ParseMix reads "put=90,read=5,set=5", or "chat" for questions alone.
func ParseMix(s string) (m Mix, err error) {
	if s == kindNames[kindChat] {
		s += "=100"
	}
	sum := 0
	for part := range strings.SplitSeq(s, ",") {
		name, share, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(share)
		if err != nil || n < 0 {
			return m, fmt.Errorf("%q: NAME=PERCENT is needed", part)
		}
		found := false
		for k, want := range kindNames {
			if name == want {
				m[k], found = n, true
			}
		}
		if !found {
			return m, fmt.Errorf("%q: one of %s", name, strings.Join(kindNames[:], ", "))
		}
		sum += n
	}
	if sum != 100 {
		return m, fmt.Errorf("the shares of %q add up to %d, not to 100", s, sum)
	}
	return m, nil
}

// The most that one run does.
const (
	maxConnections = 100_000
	maxRate        = 1_000_000
	maxDevices     = 64
	maxPayload     = 60_000
	maxDuration    = 24 * time.Hour
)

func (c *Config) check() error {
	var errs []error
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("a URL is needed"))
	}
	for _, s := range c.URLs {
		if u, err := url.Parse(s); err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
			errs = append(errs, fmt.Errorf("%q: a ws:// or wss:// URL is needed", s))
		}
	}
	for _, r := range []struct {
		what        string
		v, min, max float64
	}{
		{"connections", float64(c.Connections), 1, maxConnections},
		{"devices", float64(c.Devices), 1, maxDevices},
		{"rate", c.Rate, 0.001, maxRate},
		{"payload", float64(c.Payload), 1, maxPayload},
		{"duration (s)", c.Duration.Seconds(), 0.001, maxDuration.Seconds()},
		{"warmup (s)", c.Warmup.Seconds(), 0, maxDuration.Seconds()},
	} {
		if r.v < r.min || r.v > r.max {
			errs = append(errs, fmt.Errorf("%s %v: %v to %v", r.what, r.v, r.min, r.max))
		}
	}
	if c.Devices > 0 && c.Connections%c.Devices != 0 {
		errs = append(errs, fmt.Errorf("connections %d: not a multiple of %d devices", c.Connections, c.Devices))
	}
	return errors.Join(errs...)
}
