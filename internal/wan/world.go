package wan

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roamsync/roam/internal/app"
)

// world is regions and the ways between them.
type world struct {
	ground  ground
	regions []*region
	key     []byte // of client tokens
	normal  Shape  // what each way is like when nothing is wrong
}

type region struct {
	name  string
	nodes []*node
}

// patience bounds what must happen in the end; only a hang, or a fault, reaches it.
const patience = 90 * time.Second

// errEnded is a process that is gone.
var errEnded = errors.New("it has ended")

// look is how often something is asked for.
const look = 100 * time.Millisecond

// newWorld lays regions out on a ground and starts nothing.
func newWorld(g ground, dir string, regions []string, nodes int, host func(region, node int) string, normal Shape) (*world, error) {
	w := &world{ground: g, key: make([]byte, 32), normal: normal}
	_, _ = rand.Read(w.key) // never fails
	w.key = []byte(hex.EncodeToString(w.key))
	var ring bytes.Buffer
	secret, key := filepath.Join(dir, "secret"), filepath.Join(dir, "key")
	if err := errors.Join(app.Keygen(app.KeygenOptions{}, &ring), os.WriteFile(secret, ring.Bytes(), 0o600), os.WriteFile(key, w.key, 0o600)); err != nil {
		return nil, err
	}
	for i, name := range regions {
		r := &region{name: name}
		for j := range nodes {
			r.nodes = append(r.nodes, &node{region: name, name: fmt.Sprintf("n%d", j+1), host: host(i+1, j+1), expect: nodes,
				dir: filepath.Join(dir, fmt.Sprintf("%s-n%d", name, j+1)), secret: secret, key: key, dial: g.Dialer(name)})
		}
		w.regions = append(w.regions, r)
	}
	for _, n := range w.nodes() { // the first of each other region, and all of its own
		for _, r := range w.regions {
			for j, o := range r.nodes {
				if o != n && (j == 0 || r.name == n.region) {
					n.join = append(n.join, o.addr(clusterPort))
				}
			}
		}
	}
	w.heal()
	return w, nil
}

func (w *world) nodes() (all []*node) {
	for _, r := range w.regions {
		all = append(all, r.nodes...)
	}
	return all
}

// pairs are all directions between regions.
func (w *world) pairs() (all []Pair) {
	for _, a := range w.regions {
		for _, b := range w.regions {
			if a != b {
				all = append(all, Pair{a.name, b.name})
			}
		}
	}
	return all
}

// heal makes all ways normal.
func (w *world) heal() {
	for _, p := range w.pairs() {
		w.ground.Ways().Shape(p, w.normal)
	}
}

// start starts nodes and waits until they take clients.
func (w *world) start(ctx context.Context, nodes ...*node) error {
	for _, n := range nodes {
		if err := n.start(w.ground); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		err := w.await(ctx, patience, n.region+"-"+n.name+" takes clients", func() error {
			if n.life == nil {
				return errEnded
			}
			select {
			case <-n.life.Ended():
				return errEnded
			default:
			}
			s, err := n.status(ctx)
			if err == nil && !s.Ready {
				err = errors.New("it is not ready")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// gone names a node whose process has ended by itself: time does not mend that.
func (w *world) gone() error {
	for _, n := range w.nodes() {
		if n.life == nil {
			continue
		}
		select {
		case <-n.life.Ended():
			return fmt.Errorf("%s-%s: %w by itself: -logs keeps what it said", n.region, n.name, errEnded)
		default:
		}
	}
	return nil
}

// await tries until something is so, and returns what was in the way if that lasts.
func (w *world) await(ctx context.Context, most time.Duration, what string, so func() error) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for end := time.Now().Add(most); ; {
		err := so()
		if err == nil {
			return nil
		}
		if errors.Is(err, errEnded) || errors.Is(err, errDigest) { // time does not mend it
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %s it is not so that %s: %w", most, what, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// level says what is in the way of all nodes having the same; digests of equal cursors must be equal.
func (w *world) level(ctx context.Context) error {
	var first nodeStatus
	for i, n := range w.nodes() {
		s, err := n.status(ctx)
		if err != nil {
			return err
		}
		if i == 0 {
			first = s
			continue
		}
		if err := sameState(&first, &s); err != nil {
			return fmt.Errorf("%s-%s: %w", n.region, n.name, err)
		}
	}
	return nil
}

// strangers says who does not follow whom yet.
func (w *world) strangers(ctx context.Context) error {
	for _, r := range w.regions {
		known := map[string]bool{}
		for _, n := range r.nodes {
			s, err := n.status(ctx)
			if err != nil {
				return err
			}
			for _, other := range s.Replication.Regions {
				if other.State == "up" {
					known[other.Name] = true
				}
			}
		}
		if len(known) < len(w.regions) {
			return fmt.Errorf("%s knows %d of %d regions", r.name, len(known), len(w.regions))
		}
	}
	return nil
}

// errDigest is a difference that time does not mend.
var errDigest = errors.New("equal cursors, other digests")

func sameState(a, b *nodeStatus) error {
	behind := 0
	for p := range a.Partitions {
		x, y := a.Partitions[p], b.Partitions[p]
		switch {
		case fmt.Sprint(x.Cursors) != fmt.Sprint(y.Cursors): // in the order of their keys
			behind++
		case x.Digest != y.Digest:
			return fmt.Errorf("partition %d: %w", p, errDigest)
		}
	}
	if behind > 0 {
		return fmt.Errorf("%d partitions have other cursors (%d ops, %d ops)", behind, a.applied(), b.applied())
	}
	return nil
}

// faults is what nodes said that they must never say.
func (w *world) faults() string {
	var all bytes.Buffer
	for _, n := range w.nodes() {
		if n.life != nil {
			all.WriteString(n.life.Faults())
		}
	}
	return all.String()
}

// token is a user's.
func (w *world) token(user string) string {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: user, ExpiresAt: jwt.NewNumericDate(time.Now().Add(24 * time.Hour)),
	}).SignedString(w.key)
	if err != nil {
		panic(err) // only for keys of another kind
	}
	return token
}
