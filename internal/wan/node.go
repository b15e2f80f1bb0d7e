package wan

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// The ports of each node, at an address of its own.
const (
	clientPort  = "8080"
	adminPort   = "8081"
	clusterPort = "7946"
	peerPort    = "7947"

	clusterNumber = 7946
)

// maxNodes bounds the nodes of a region.
const maxNodes = 5

// node is a machine of a region: an address, a disk, and a process on it or none.
type node struct {
	region, name string
	host, dir    string
	expect       int
	join         []string
	secret, key  string // files
	offset       time.Duration
	congestion   string // TCP's, of connections to other nodes; empty: the machine's
	redis        bool   // there is a redis-server in its region
	life         life   // nil: it is down
	dial         dialFunc
}

func (n *node) addr(port string) string { return net.JoinHostPort(n.host, port) }

func (n *node) url() string { return "ws://" + n.addr(clientPort) + "/v1/connect" }

// args is the node's command line.
func (n *node) args() []string {
	args := []string{"serve", "--region", n.region, "--node", n.name, "--data", n.dir, "--bootstrap-expect", strconv.Itoa(n.expect),
		"--client-addr", n.addr(clientPort), "--admin-addr", n.addr(adminPort), "--cluster-addr", n.addr(clusterPort),
		"--peer-addr", n.addr(peerPort), "--secret-file", n.secret, "--auth-hs256-file", n.key, "--disk-reserve", "0"}
	if n.redis {
		args = append(args, "--worker", "echo") // and the Redis of its region, where it looks for it
	} else if n.expect == 1 {
		args = append(args, "--redis", "embedded", "--worker", "echo")
	}
	if len(n.join) > 0 {
		args = append(args, "--join", strings.Join(n.join, ","))
	}
	if n.congestion != "" {
		args = append(args, "--peer-congestion", n.congestion)
	}
	if n.offset != 0 {
		args = append(args, "--unsafe-clock-offset="+n.offset.String()) // a value below 0 is taken for a flag otherwise
	}
	return args
}

func (n *node) start(g ground) (err error) {
	if n.life == nil {
		n.life, err = g.Start(n)
	}
	return err
}

func (n *node) kill() {
	if n.life != nil {
		n.life.Kill()
		n.life = nil
	}
}

// freezer is a life that can stand still.
type freezer interface{ Freeze(still bool) }

// freeze has it stand still, or go on.
func (n *node) freeze(still bool) {
	if f, ok := n.life.(freezer); ok {
		f.Freeze(still)
	}
}

// stop ends it in order.
func (n *node) stop() error {
	if n.life == nil {
		return nil
	}
	err := n.life.Stop()
	n.life = nil
	return err
}

func (n *node) wipe() error { return os.RemoveAll(n.dir) }

// nodeStatus is what the rig reads of a node's status.
type nodeStatus struct {
	Ready       bool
	Replication struct {
		Regions []struct{ Name, State string }
	}
	Partitions []partition
}

type partition struct {
	Cursors map[string]uint64
	Digest  string
}

// applied is how many ops the node has.
func (s *nodeStatus) applied() (all uint64) {
	for _, p := range s.Partitions {
		for _, f := range p.Cursors {
			all += f
		}
	}
	return all
}

// beyond is how many ops the node has that another lacks.
func (s *nodeStatus) beyond(other *nodeStatus) (n uint64) {
	for i, p := range s.Partitions {
		var have map[string]uint64
		if i < len(other.Partitions) {
			have = other.Partitions[i].Cursors
		}
		for origin, f := range p.Cursors {
			n += f - min(f, have[origin])
		}
	}
	return n
}

// webBy is an HTTP client.
func webBy(dial dialFunc) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }}}
}

func (n *node) status(ctx context.Context) (s nodeStatus, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr(adminPort)+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := webBy(n.dial).Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status of %s-%s: %s", n.region, n.name, resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
