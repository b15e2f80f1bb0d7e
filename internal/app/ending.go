package app

import (
	"bytes"
	"errors"
	"runtime/pprof"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// leaveTimeout bounds how long a node whose disk failed waits for what may hang with it.
	leaveTimeout = 2 * time.Second
	// endTimeout bounds how long a node that has sent its clients on waits for all else to end, and then for its directory to be closed. What it waits for takes a second.
	endTimeout = 15 * time.Second
	// maxStacks bounds what is logged of what hangs.
	maxStacks = 256 << 10
)

// errHangs is why a node has ended as a crash would have it: nothing acknowledged is lost by that.
var errHangs = errors.New("something in this node did not end: it has left without waiting any longer, as in a crash, and nothing acknowledged is lost; " +
	"its log says what hangs: please report that")

// wait waits for all that run has started, until it is told to stop and for endTimeout more. Once the region cannot go on it does not wait for long: what reads from a
// disk that hangs ends with the process.
func (n *node) wait(g *errgroup.Group, told <-chan struct{}) error {
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	err, whole := awaitEnd(done, n.region.Failed(), told)
	if whole {
		return err
	}
	n.left = true
	if why := n.region.Failure(); why != nil {
		return why
	}
	return n.hangs()
}

// awaitEnd waits for an end, which may be late once the node has failed, or was told to end. whole: it has come.
func awaitEnd(done <-chan error, failed, told <-chan struct{}) (err error, whole bool) {
	var late <-chan time.Time
	for {
		select {
		case err := <-done:
			return err, true
		case <-failed:
			failed, told, late = nil, nil, time.After(leaveTimeout)
		case <-told:
			told, late = nil, time.After(endTimeout)
		case <-late:
			return nil, false
		}
	}
}

// hangs says what the node would wait for.
func (n *node) hangs() error {
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		n.log.Error("what hangs cannot be said", "err", err)
	}
	n.log.Error("something in this node does not end", "waited", endTimeout, "goroutines", string(stacks.Bytes()[:min(stacks.Len(), maxStacks)]))
	return errHangs
}

// closeRegion closes the directory, unless what it would wait for hangs already.
func (n *node) closeRegion() error {
	if n.region == nil || n.left {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- n.region.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(endTimeout):
		return n.hangs()
	}
}
