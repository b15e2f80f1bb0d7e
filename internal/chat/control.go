package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/roamsync/roam/client"
)

const (
	// controlTimeout bounds one request to `roam dev`: a region is started within it.
	controlTimeout = 30 * time.Second
	// askTimeout bounds the question whether there are switches at all, which is asked every askEvery until it is answered.
	askTimeout = 3 * time.Second
	askEvery   = 2 * time.Second
	// maxReply bounds what is read of a reply, in bytes.
	maxReply = 64 << 10
)

// control are the switches of `roam dev`, if the regions run under it.
type control struct{ http *http.Client }

func newControl() *control {
	return &control{&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// base is where a region's client port takes HTTP.
func base(ws string) (string, error) {
	u, err := url.Parse(ws)
	if err != nil {
		return "", err
	}
	u.Scheme = map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	u.Path, u.RawQuery = "/dev/v1/regions", ""
	return u.String(), nil
}

// available asks regions whether there are switches. It is sure if one of them answered.
func (c *control) available(ctx context.Context, regions []client.Region) (yes, sure bool) {
	for _, r := range regions {
		u, err := base(r.URL)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		code, body, err := c.do(ctx, http.MethodGet, u)
		cancel()
		if err == nil {
			return code == http.StatusOK && json.Valid(body), true
		}
	}
	return false, false
}

// await asks until it is sure.
func (c *control) await(ctx context.Context, regions func() []client.Region) bool {
	again := time.NewTicker(askEvery)
	defer again.Stop()
	for {
		if yes, sure := c.available(ctx, regions()); sure {
			return yes
		}
		select {
		case <-ctx.Done():
			return false
		case <-again.C:
		}
	}
}

func (c *control) do(ctx context.Context, method, u string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	return res.StatusCode, b, err
}

// turn kills or starts a region. Another region is asked first, since a dead one cannot be asked, and one that dies
// does not reply: that it was reached and then was gone is its reply.
func (c *control) turn(ctx context.Context, what, name string, regions []client.Region) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	err := errors.New("no region is known")
	for _, r := range lastNamed(regions, name) {
		var u string
		if u, err = base(r.URL); err != nil {
			continue
		}
		var code int
		var body []byte
		if code, body, err = c.do(ctx, http.MethodPost, u+"/"+url.PathEscape(name)+"/"+what); err != nil {
			if what == "kill" && r.Name == name && ctx.Err() == nil && reached(err) {
				return nil
			}
			continue
		}
		if code == http.StatusNotFound && strings.HasPrefix(string(body), "404") {
			return fmt.Errorf("/%s works where regions run under roam dev", what)
		}
		if code/100 != 2 {
			return fmt.Errorf("/%s %s: %s", what, cleanLine(name), cleanLine(strings.TrimSpace(string(body))))
		}
		return nil
	}
	return fmt.Errorf("/%s %s: no region of roam dev can be asked: %w", what, cleanLine(name), err)
}

// reached reports whether a request that failed had a connection.
func reached(err error) bool {
	var network *net.OpError
	return !errors.As(err, &network) || network.Op != "dial"
}

// lastNamed puts the region of that name last.
func lastNamed(regions []client.Region, name string) []client.Region {
	var others, named []client.Region
	for _, r := range regions {
		if r.Name == name {
			named = append(named, r)
		} else {
			others = append(others, r)
		}
	}
	return append(others, named...)
}
