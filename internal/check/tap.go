package check

import (
	"context"
	"sync"
)

// Tap is on one connection of a client, and tells a checker what the client has taken, when it has. A message that was read is not yet
// that: one that comes while the client leaves the connection it drops, goes on elsewhere with the cur from before, and shows its user
// nothing of it. So it is not to be held to it: an op of the next moment need not stand after that message. Whether it has taken one is
// known when it asks for the next.
//
// This is exact for clients that read a connection with one goroutine, ask for the next message if and only if they took all of the one before, and
// take nothing of a connection any more once they have said hello on another. What they took just before that may be told a moment after it: the
// checker then sees a cur in the hello which it does not know yet, and allows for that.
type Tap struct {
	took func(message []byte)

	mu      sync.Mutex
	due     []byte        // came, and the client has not asked for the next
	settled chan struct{} // closed when it has; nil: nothing is due
	left    chan struct{} // closed when the client has left
}

// NewTap calls took, from who reads, with each message that was taken.
func NewTap(took func(message []byte)) *Tap {
	return &Tap{took: took, left: make(chan struct{})}
}

// Asks is to be called when the client asks for a message.
func (t *Tap) Asks() {
	t.mu.Lock()
	due, settled := t.due, t.settled
	t.mu.Unlock()
	if settled == nil {
		return
	}
	t.took(due)
	t.mu.Lock()
	t.due, t.settled = nil, nil
	t.mu.Unlock()
	close(settled)
}

// Came is to be called with what it gets.
func (t *Tap) Came(message []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due, t.settled = message, make(chan struct{})
}

// Sends is to be called before anything is sent: it waits until it is known whether the client has taken what came before, which may be why
// it sends that. false: the client has left, and nothing is sent any more.
func (t *Tap) Sends(ctx context.Context) bool {
	t.mu.Lock()
	settled := t.settled
	t.mu.Unlock()
	if settled != nil {
		select {
		case <-settled:
		case <-t.left:
		case <-ctx.Done():
		}
	}
	select {
	case <-t.left:
		return false
	default:
		return ctx.Err() == nil
	}
}

// Leaves is to be called once, when the client closes the connection. What it took just before may still be told.
func (t *Tap) Leaves() { close(t.left) }
