package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/wire"
)

// TestRestoreOfAnOldBackup: a region is lost, and restored from a backup that is older than what it had given to another. All that
// the other has comes back, once; what only a client has comes from its outbox; no number has two contents, else the regions would
// refuse each other's feeds.
func TestRestoreOfAnOldBackup(t *testing.T) {
	t.Parallel() // it waits, mostly
	w := newWorld(t, "shanghai")
	stop := w.start("beijing", t.TempDir(), w.ring)
	w.put("beijing", "m1")
	file := filepath.Join(t.TempDir(), "backup")
	var said bytes.Buffer
	if err := Backup(t.Context(), BackupOptions{Admin: w.nodes["beijing"].opts.AdminAddr, Out: file}, nil, &said); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "region beijing by node n1, 1 sessions") {
		t.Errorf("it says %s", &said)
	}
	for i := range 20 {
		w.put("beijing", fmt.Sprintf("after%d", i))
	}
	w.put("shanghai", "there")
	w.until("all is in both", func() bool { return w.has("shanghai", "after19") && w.has("beijing", "there") })
	w.net.CutBoth("beijing", "shanghai", memnet.Break)
	c, s, end := talker(t, w.nodes["beijing"], w.nodes["shanghai"])
	lost, err := s.Send("only in beijing", client.SendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.Wait(c, client.Stored); err != nil {
		t.Fatal(err)
	}
	old := w.nodes["beijing"].region.Origins()
	w.nodes["beijing"].killed.Store(true)
	stop()

	dir := filepath.Join(t.TempDir(), "restored")
	said.Reset()
	if err := Restore(t.Context(), RestoreOptions{Data: dir, In: file}, nil, &said, &said); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "roam serve --region beijing --node n1 --data "+dir) {
		t.Errorf("it says %s", &said)
	}
	w.net.CutBoth("beijing", "shanghai", memnet.Open)
	w.start("beijing", dir, w.ring)
	for _, o := range old {
		if w.nodes["beijing"].region.Self(0) == o {
			t.Errorf("it issues as %s again", o)
		}
	}
	w.put("beijing", "new")
	w.until("all is in beijing", func() bool { return w.has("beijing", "after19") && w.has("beijing", "there") })
	if err := lost.Wait(c, client.Safe); err != nil {
		t.Error(err)
	}
	end()
	w.equal()
	for name, n := range w.nodes {
		seen := map[string]int{}
		if err := n.region.View(session, func(st crdt.Store) {
			crdt.Log(st, func(e *crdt.Entry) bool {
				seen[e.OID]++
				return true
			})
		}); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 24 || seen[lost.OID()] != 1 {
			t.Errorf("%s holds %v", name, seen)
		}
	}
}

// talker is a client that knows some nodes, first the first.
func talker(t *testing.T, nodes ...*node) (context.Context, *client.Session, func()) {
	t.Helper()
	cfg := client.Config{Device: "phone", Token: func(context.Context) (string, error) { return "dev:alice", nil }}
	for _, n := range nodes {
		cfg.Regions = append(cfg.Regions, client.Region{Name: n.opts.Region, URL: n.opts.AdvertiseURL})
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	s, err := c.Session(session)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, s, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestBackupLeavesNothingHalf: what was cut short has no name, and what has the name stays.
func TestBackupLeavesNothingHalf(t *testing.T) {
	w := newWorld(t, "beijing")
	w.put("beijing", "m1")
	admin, dir := w.nodes["beijing"].opts.AdminAddr, t.TempDir()
	file := filepath.Join(dir, "backup")
	if err := os.WriteFile(file, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Backup(ended, BackupOptions{Admin: admin, Out: file}, nil, &bytes.Buffer{}); err == nil {
		t.Error("a backup that was given up is one")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "older" {
		t.Errorf("the older one is now %q, %v", b, err)
	}
	var out bytes.Buffer
	if err := Backup(t.Context(), BackupOptions{Admin: admin, Out: "-"}, &out, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), BackupOptions{Admin: admin, Out: file}, nil, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Errorf("in the directory: %v, %v", names, err)
	}
	whole := out.Bytes()
	for _, b := range [][]byte{whole[:len(whole)/2], append(whole[:len(whole)-1:len(whole)-1], whole[len(whole)-1]^1)} {
		var copied bytes.Buffer
		if _, err := copyBackup(bytes.NewReader(b), &copied, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "of no use") {
			t.Errorf("%d of %d bytes: %v", len(b), len(whole), err)
		}
	}
	if err := Backup(t.Context(), BackupOptions{Admin: w.nodes["beijing"].opts.ClientAddr, Out: "-"}, &out, &out); err == nil ||
		!strings.Contains(err.Error(), "--admin") {
		t.Errorf("at the client address: %v", err)
	}
}

// TestNobodyWhoReadsHoldsANodeUp: a node that is told to end does, though somebody has asked it for a backup and does not read on.
func TestNobodyWhoReadsHoldsANodeUp(t *testing.T) {
	w := newWorld(t)
	stop := w.start("beijing", t.TempDir(), w.ring)
	n := w.nodes["beijing"]
	text := make([]byte, 48<<10)
	for i := range 400 { // more than what fits between the two, and does not compress
		rand.Read(text)
		oid := fmt.Sprintf("m%d", i)
		op := &crdt.Op{Kind: crdt.KindMsg, Session: session, OID: oid, User: "alice", Role: "user", Text: base64.StdEncoding.EncodeToString(text)}
		if err := n.region.Submit(&wire.Put{Session: session, Ops: []*crdt.Op{op}, Fail: func(err error) { t.Error(err) }}); err != nil {
			t.Fatal(err)
		}
	}
	w.until("all is there", func() bool { return w.has("beijing", "m399") })
	body, err := ask(t.Context(), n.opts.AdminAddr, "GET", backupPath, content{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := copyBackup(body, io.Discard, io.Discard); err == nil {
		t.Error("the backup is whole all the same: the test is of nothing")
	}
}
