package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

const (
	// eraseAtOnce bounds the sessions whose end is on its way, and eraseLimit how long one may take.
	eraseAtOnce = 64
	eraseLimit  = 20 * time.Second
	// eraseRounds bounds how often what has come from elsewhere meanwhile is erased too.
	eraseRounds = 3
	// eraseLook is how often it is looked whether other regions have it.
	eraseLook = 100 * time.Millisecond
	// eraseOID begins the oids of operators' forgets.
	eraseOID = "erase."
	// operatorTags is where the tags of operators' puts begin: the gateway counts its own from 1.
	operatorTags = 1 << 63
)

// eraseLine is a line of what an erasure answers. T says which fields count:
//
//	found      sessions        that hold anything, to be erased
//	committed  sessions        whose end the region has committed
//	region     region, behind  another region, and how many of those sessions it is not known to have erased
//	end        sessions        that hold something in this region at the end: it came meanwhile
type eraseLine struct {
	T        string `json:"t"`
	Sessions int    `json:"sessions"`
	Region   string `json:"region,omitempty"`
	Behind   int    `json:"behind"`
}

// erase deletes a user's sessions as the user would, by forget, and waits until other regions have that.
func (n *node) erase(ctx context.Context, r *http.Request, say func(line any) error) error {
	q := r.URL.Query()
	user := q.Get("user")
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if !n.region.CaughtUp(ctx) {
		return errors.New("the region has no leader that this node can reach: nothing was erased")
	}
	names, err := n.notBlank(user)
	if err := errors.Join(err, say(eraseLine{T: "found", Sessions: len(names)})); err != nil || q.Get("yes") != "1" {
		return err
	}
	e := newErasing(n, user)
	defer e.stop()
	deadline := time.Now().Add(wait)
	for round := 0; len(names) > 0 && round < eraseRounds; round++ {
		if err := e.forget(ctx, names); err != nil {
			return err
		}
		if err := say(eraseLine{T: "committed", Sessions: len(names)}); err != nil {
			return err
		}
		e.await(ctx, deadline)
		if names, err = n.notBlank(user); err != nil {
			return err
		}
	}
	behind := e.behind()
	for _, region := range slices.Sorted(maps.Keys(behind)) {
		if err := say(eraseLine{T: "region", Region: region, Behind: behind[region]}); err != nil {
			return err
		}
	}
	return say(eraseLine{T: "end", Sessions: len(names)})
}

// notBlank lists a user's sessions that hold anything.
func (n *node) notBlank(user string) (names []string, err error) {
	err = n.region.Owned(user+"/", func(session string, st crdt.Store) error {
		if !crdt.Blank(st) {
			names = append(names, session)
		}
		return nil
	})
	return names, err
}

// erasing is an erasure on its way.
type erasing struct {
	n    *node
	user string
	stop func()

	mu      sync.Mutex
	waiting map[uint64]chan<- wire.Event // by tag; each takes one
	done    []crdt.Dot                   // of what was committed
}

func newErasing(n *node, user string) *erasing {
	e := &erasing{n: n, user: user, waiting: map[uint64]chan<- wire.Event{}}
	e.stop = n.region.Watch(e.heard)
	return e
}

func (e *erasing) heard(events []wire.Event) {
	for i := range events {
		if events[i].Tag < operatorTags {
			continue
		}
		e.mu.Lock()
		if c, ok := e.waiting[events[i].Tag]; ok {
			c <- events[i]
			delete(e.waiting, events[i].Tag)
		}
		e.mu.Unlock()
	}
}

// forget commits the end of sessions.
func (e *erasing) forget(ctx context.Context, sessions []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(eraseAtOnce)
	for _, s := range sessions {
		g.Go(func() error {
			if err := e.one(ctx, s); err != nil {
				return fmt.Errorf("session %s: %w", s, err)
			}
			return nil
		})
	}
	return g.Wait()
}

var lastOperatorTag atomic.Uint64

func (e *erasing) one(ctx context.Context, session string) error {
	ctx, cancel := context.WithTimeout(ctx, eraseLimit)
	defer cancel()
	event, failed := make(chan wire.Event, 1), make(chan error, 1)
	tag := operatorTags + lastOperatorTag.Add(1)
	e.mu.Lock()
	e.waiting[tag] = event
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waiting, tag)
	}()
	op := &crdt.Op{Kind: crdt.KindForget, Session: session, OID: eraseOID + rand.Text(), User: e.user, Device: "operator"}
	if err := e.n.region.Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Tag: tag, Fail: func(err error) { failed <- err }}); err != nil {
		return err
	}
	select {
	case ev := <-event:
		if ev.Refused != nil {
			return ev.Refused
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.done = append(e.done, ev.Placed[0].Dot)
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// behind counts, for each other region that was ever met, what it is not known to have.
func (e *erasing) behind() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	there := e.n.links.Status().Elsewhere
	behind := map[string]int{}
	for _, region := range e.n.otherRegions() {
		behind[region] = 0
		for _, d := range e.done {
			if row, ok := there[region][originHex(d.ID)]; !ok || row[d.Partition] < d.F {
				behind[region]++
			}
		}
	}
	return behind
}

func (n *node) otherRegions() (names []string) {
	names = n.region.Peers()
	for _, r := range n.links.Status().Regions {
		if r.Name != n.opts.Region && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

// await waits until all other regions have what was committed, or the time is over.
func (e *erasing) await(ctx context.Context, deadline time.Time) {
	look := time.NewTicker(eraseLook)
	defer look.Stop()
	for time.Now().Before(deadline) {
		left := 0
		for _, n := range e.behind() {
			left += n
		}
		if left == 0 {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}
