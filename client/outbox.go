package client

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Item is an op that is kept until it is safe.
type Item struct {
	Session string          `json:"s"`
	OID     string          `json:"oid"`
	Born    time.Time       `json:"born"`
	Op      json.RawMessage `json:"op"` // as it is put
	// Cur is the resume token that was held then: what the op is put after, wherever that is.
	Cur string `json:"cur,omitempty"`
	// Anew says that Cur was begun anew: it need not cover what the op before came after, so the two do not go in one put.
	Anew bool `json:"anew,omitempty"`
}

// Outbox keeps ops that are not safe yet. A Client calls it from several goroutines and never twice at once for one
// op. Its size is bounded by Config.MaxOutbox.
type Outbox interface {
	// Load returns what is kept, in the order it was added.
	Load() ([]Item, error)
	// Add keeps an op; when it returns nil the op is as durable as this outbox makes it.
	Add(Item) error
	// Remove forgets ops of a session; unknown ones are no error.
	Remove(session string, oids []string) error
}

// MemoryOutbox is an Outbox that ends with the process. The zero value is ready.
type MemoryOutbox struct {
	mu    sync.Mutex
	items []Item // guarded by mu
}

// Load implements Outbox.
func (m *MemoryOutbox) Load() ([]Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.items), nil
}

// Add implements Outbox.
func (m *MemoryOutbox) Add(it Item) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = append(m.items, it)
	return nil
}

// Remove implements Outbox.
func (m *MemoryOutbox) Remove(session string, oids []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = slices.DeleteFunc(m.items, func(it Item) bool {
		return it.Session == session && slices.Contains(oids, it.OID)
	})
	return nil
}
