package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// headStart is how long one way is tried alone before the next is tried as well: a machine that hangs may still accept
	// connections, and then say nothing.
	headStart = 500 * time.Millisecond
	// maxWays bounds how many are tried at once.
	maxWays = 8
)

// dialled is a connection, the region that it leads to, and the token for it, when there is one.
type dialled struct {
	conn   Conn
	region Region
	token  string
}

func (c *Client) dial(ctx context.Context, to Region) (*dialled, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	conn, err := c.cfg.Dial(ctx, to.URL)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to.Name, err)
	}
	return &dialled{conn: conn, region: to}, nil
}

// reach connects to the first of some ways that answers; those before in the list have a head start, and one that fails gives way
// at once. When it returns, no other is being tried any more.
func (c *Client) reach(ctx context.Context, ways []Region) (*dialled, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		to  *dialled
		err error
	}
	ways = ways[:min(len(ways), maxWays)]
	ended := make(chan outcome, len(ways))
	var won *dialled
	var errs []error
	timer := time.NewTimer(0)
	defer timer.Stop()
	for begun, open := 0, 0; open > 0 || won == nil && begun < len(ways); {
		select {
		case <-timer.C:
			if won == nil && begun < len(ways) {
				to := ways[begun]
				go func() { d, err := c.dial(ctx, to); ended <- outcome{d, err} }()
				begun, open = begun+1, open+1
				timer.Reset(headStart)
			}
		case o := <-ended:
			open--
			switch {
			case o.err != nil:
				errs = append(errs, o.err)
				timer.Reset(0)
			case won != nil:
				_ = o.to.conn.Close(0, "")
			default:
				won = o.to
				cancel()
			}
		}
	}
	if won == nil {
		return nil, errors.Join(errs...)
	}
	return won, nil
}

// nextToken bounds what the token for a connection may take that is made beside the one in use: regions wait 10 s for a hello.
const nextToken = 8 * time.Second

// prepare makes a connection that is only to be greeted, while another one serves.
func (c *Client) prepare(ctx context.Context, ways []Region) (*dialled, error) {
	d, err := c.reach(ctx, ways)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, nextToken)
	defer cancel()
	if d.token, err = c.token(ctx); err != nil {
		_ = d.conn.Close(0, "")
		return nil, err
	}
	return d, nil
}

// token asks for one. The owner of the program is asked for one at a time.
func (c *Client) token(ctx context.Context) (string, error) {
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return "", fmt.Errorf("token: %w", context.Cause(ctx))
	}
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return token, nil
}

// nodes are the ways to the current region, the one whose turn it is first.
func (r *route) nodes() []Region { return r.regions[r.at].ways(r.node) }

// ways are those to a region's nodes, beginning with one.
func (g Region) ways(first int) []Region {
	if len(g.URLs) == 0 {
		return []Region{g}
	}
	ways := make([]Region, len(g.URLs))
	for i := range ways {
		ways[i] = g
		ways[i].URL = g.URLs[(first+i)%len(g.URLs)]
	}
	return ways
}

// landed takes it that a connection leads to a region, at one of its nodes.
func (r *route) landed(to Region) {
	r.prefer(to.Name)
	if now := r.regions[r.at]; now.Name == to.Name {
		r.node = max(slices.Index(now.URLs, to.URL), 0)
	}
}
