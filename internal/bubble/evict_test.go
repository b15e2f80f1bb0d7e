package bubble

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/app"
	"github.com/roamsync/roam/internal/memnet"
)

// absent is a region as another one's operator sees it.
type absent struct {
	Region         string
	Heard, Evicted bool
	Back           string
	Open           struct{ Partitions int }
}

// regionSeen is what a node's operator is told of another region.
func (n *node) regionSeen(region string) (a absent) {
	resp, err := n.w.operator().Get("http://" + n.opts.AdminAddr + "/v1/regions")
	if err != nil {
		return a
	}
	defer resp.Body.Close()
	var all struct{ Regions []absent }
	if json.NewDecoder(resp.Body).Decode(&all) != nil {
		return a
	}
	for _, a := range all.Regions {
		if a.Region == region {
			return a
		}
	}
	return a
}

// evict has a node's operator give up a region, and returns what the node says.
func (n *node) evict(region string) (status int, words string) {
	resp, err := n.w.operator().PostForm("http://"+n.opts.AdminAddr+"/v1/regions/evict", url.Values{"region": {region}})
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// ends starts a process that is expected to end by itself, and returns why it does.
func (n *node) ends() error {
	n.w.t.Helper()
	l := &life{done: make(chan error, 1)}
	node, err := app.NewNode(n.opts, n.w.ring, n.machine(l), n.w.log.With("node", n.place))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = node.Run(ctx, func() {})
	_ = node.Close()
	return err
}

// TestRegionLostAndEvicted: of three regions one is lost with ops that no other has. Its client goes on elsewhere; once the region is evicted
// that is behind no more, and nothing is lost or there twice. The disk that is found later is refused, and the region comes back empty.
func TestRegionLostAndEvicted(t *testing.T) {
	inBubble(t, 9, plan{{"beijing", 1}, {"shanghai", 1}, {"guangzhou", 1}}, func(w *world) {
		var resyncs atomic.Int64
		w.doctor = func(b []byte) []byte {
			resyncs.Add(int64(bytes.Count(b, []byte(`"why":"resync"`))))
			return b
		}
		phone := w.newDevice("alice", "phone", trip, "beijing")
		w.doctor = nil
		laptop := w.newDevice("alice", "laptop", trip, "guangzhou")
		phone.wait(phone.say(), client.Safe)
		lost, other := w.region("beijing").nodes[0], w.region("shanghai").nodes[0]
		if status, words := other.evict("beijing"); status != http.StatusConflict || !strings.Contains(words, "is there") {
			t.Errorf("a region that lives can be evicted: %d %s", status, words)
		}
		w.cutBoth("beijing", "shanghai", memnet.Break)
		w.cutBoth("beijing", "guangzhou", memnet.Break)
		for range 5 {
			phone.wait(phone.say(), client.Stored)
		}
		lost.crash()
		w.await("the phone goes on where not all is that it has seen", func() bool { st := phone.s.State(); return st.Live && st.Region != "beijing" && st.Behind })
		laptop.wait(laptop.say(), client.Safe)
		w.await("beijing can be evicted", func() bool { status, _ := other.evict("beijing"); return status == http.StatusOK })
		w.await("all that it numbered is closed", func() bool {
			for _, n := range []*node{other, w.region("guangzhou").nodes[0]} {
				if a := n.regionSeen("beijing"); !a.Evicted || a.Open.Partitions > 0 {
					return false
				}
			}
			return true
		})
		w.await("nobody is behind the phone any more", func() bool { st := phone.s.State(); return st.Live && !st.Behind && len(st.Outbox) == 0 })
		if resyncs.Load() == 0 {
			t.Error("the client was not told")
		}
		for _, d := range []*device{phone, laptop} {
			d.wait(d.say(), client.Safe)
		}
		w.cutBoth("beijing", "shanghai", memnet.Open)
		w.cutBoth("beijing", "guangzhou", memnet.Open)
		for range 2 { // it finds out, and then knows
			if err := lost.ends(); err == nil || !strings.Contains(err.Error(), "was evicted") || !strings.Contains(err.Error(), "5 ops") {
				t.Errorf("with its old disk it ends with: %v", err)
			}
		}
		lost.disk = newDisk()
		lost.start()
		w.await("beijing is back", func() bool {
			a := other.regionSeen("beijing")
			return w.ready() && a.Back != "" && a.Heard && !a.Evicted
		})
		phone.move("beijing")
		w.await("the phone is back, too", func() bool { return phone.live("beijing") && !phone.s.State().Behind })
		phone.wait(phone.say(), client.Safe)
		pass(time.Second)
	})
}

// TestEvictedAlone: of two regions one is evicted. The other counts what it has as safe, and drops records for nobody's sake; the evicted one
// comes back with its disk, since it holds nothing else, and counts again.
func TestEvictedAlone(t *testing.T) {
	inBubble(t, 10, two, func(w *world) {
		d := w.newDevice("alice", "phone", trip, "shanghai")
		d.wait(d.say(), client.Safe)
		gone, other := w.region("beijing").nodes[0], w.region("shanghai").nodes[0]
		pass(10 * time.Second) // it is noted when its state began
		gone.crash()
		waiting := d.say()
		d.wait(waiting, client.Stored)
		if now, _ := waiting.Stage(); now == client.Safe {
			t.Error("safe, and nobody else has it")
		}
		w.await("beijing can be evicted", func() bool { status, _ := other.evict("beijing"); return status == http.StatusOK })
		d.wait(waiting, client.Safe)
		for range 3 * retained {
			d.wait(d.say(), client.Safe)
		}
		gone.start()
		w.await("beijing is back", func() bool { a := other.regionSeen("beijing"); return w.ready() && a.Back != "" && a.Heard })
		d.wait(d.say(), client.Safe)
		w.await("it counts", func() bool { return fmt.Sprint(d.s.State().Outbox) == "[]" })
	})
}
