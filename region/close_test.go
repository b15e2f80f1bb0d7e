package region

import (
	"context"
	"errors"
	"testing"

	"github.com/roamsync/roam/crdt"
)

// TestReadsUntilClose: whoever reads from a region may end a little later than it does.
func TestReadsUntilClose(t *testing.T) {
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-r.Ready()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Commits(0).Open(); err != nil {
		t.Error(err)
	}
	if err := r.View("alice/trip", func(crdt.Store) {}); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestLeadEndsWithTheRegion: who follows the leadership is let go when the region ends, whatever Raft still owes them.
func TestLeadEndsWithTheRegion(t *testing.T) {
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran, led, leads := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() { ran <- r.Run(ctx) }()
	go func() {
		led <- r.Lead(context.Background(), 0, func(ctx context.Context) error {
			close(leads)
			<-ctx.Done()
			return nil
		})
	}()
	<-leads
	cancel()
	if err := errors.Join(<-ran, <-led, r.Close()); err != nil {
		t.Error(err)
	}
	if err := r.Lead(context.Background(), 0, nil); err != nil {
		t.Error(err)
	}
}
