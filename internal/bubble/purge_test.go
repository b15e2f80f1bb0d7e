package bubble

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/memnet"
)

// ttl is for how long sessions may be unused where that ends.
const ttl = 10 * time.Minute

// forgetful has all regions remove what nobody uses.
func forgetful(w *world) {
	for _, s := range w.regions {
		for _, n := range s.nodes {
			n.opts.SessionTTL = ttl
		}
	}
}

// TestUnusedSessionsGo: a session that nobody has used for its time goes in both regions, its clients are told, and what is put again is a
// duplicate. One that is used stays.
func TestUnusedSessionsGo(t *testing.T) {
	report(t, brokenIn(t, 70, two, forgetful, func(w *world) {
		idle := w.newDevice("alice", "phone", trip, "beijing")
		used := w.newDevice("bob", "laptop", "bob/work", "shanghai")
		old := idle.say()
		idle.wait(old, client.Safe)
		idle.wait(idle.set("title"), client.Safe)
		idle.wait(idle.ask(5), client.Safe)
		for range 8 {
			used.wait(used.say(), client.Safe)
			pass(ttl / 8)
		}
		if len(idle.s.State().Log) != 3 {
			t.Errorf("before its time there are %d entries", len(idle.s.State().Log))
		}
		w.await("the session is gone, and its client knows", func() bool {
			st := idle.s.State()
			return len(st.Log) == 0 && len(st.Map) == 0
		})
		if len(used.s.State().Log) != 8 {
			t.Errorf("of a session that is used, %d entries are left", len(used.s.State().Log))
		}
		for _, s := range w.regions {
			if said := s.nodes[0].putRaw("alice", trip, old.OID(), "phone says 1"); !strings.Contains(said, `"t":"ok"`) {
				t.Errorf("put again in %s: %s", s.name, said)
			}
		}
		pass(time.Second)
		if n := len(idle.s.State().Log); n != 0 {
			t.Errorf("put again, it is shown: %d entries", n)
		}
		w.forgotten(trip)
	}))
}

// TestUsedAgainElsewhere: of a session that is used again in a region that is cut off while the other one purges it, that stays.
func TestUsedAgainElsewhere(t *testing.T) {
	report(t, brokenIn(t, 71, two, forgetful, func(w *world) {
		var all []*device
		for i := range 6 { // so that both regions are homes
			user := fmt.Sprint("user", i)
			d := w.newDevice(user, user, user+"/trip", "beijing")
			d.wait(d.say(), client.Safe)
			all = append(all, d)
		}
		pass(ttl)
		w.cutBoth("beijing", "shanghai", memnet.Stall)
		var kept []string
		for _, d := range all {
			d.move("shanghai")
			w.await("it is in shanghai", func() bool { return d.live("shanghai") })
			again := d.say()
			d.wait(again, client.Stored)
			kept = append(kept, again.OID())
		}
		pass(ttl / 5)
		w.cutBoth("beijing", "shanghai", memnet.Open)
		w.await("all is safe", func() bool { return !slices.ContainsFunc(all, func(d *device) bool { return d.unsettled() != "" }) })
		pass(30 * time.Second)
		purged := 0
		for i, d := range all {
			st := d.s.State()
			if len(st.Log) == 0 || st.Log[len(st.Log)-1].OID != kept[i] {
				t.Errorf("%s has %d entries", d.name, len(st.Log))
			}
			if len(st.Log) == 1 {
				purged++
				w.forgotten(d.session, kept[i])
			}
		}
		if purged == 0 || purged == len(all) {
			t.Errorf("%d of %d were purged by beijing, which did not know of what came", purged, len(all))
		}
	}))
}

// forgotten takes out of what has to be there in the end what was purged of a session: all that was acknowledged, but for some.
func (w *world) forgotten(session string, but ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = slices.DeleteFunc(w.acked, func(a ack) bool { return a.session == session && !slices.Contains(but, a.oid) })
}

// putRaw puts a message as a client does that has been away, and returns what comes of it.
func (n *node) putRaw(user, session, oid, text string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, err := n.w.webSocket(ctx, "device/phone", n.url())
	if err != nil {
		return err.Error()
	}
	defer ws.CloseNow()
	frames := fmt.Sprintf("{\"t\":\"hello\",\"id\":1,\"token\":\"dev:%s\",\"device\":\"late\"}\n{\"t\":\"put\",\"id\":2,\"s\":%q,\"ops\":[{\"k\":\"msg\",\"oid\":%q,\"text\":%q}]}",
		user, session, oid, text)
	if err := ws.Write(ctx, websocket.MessageText, []byte(frames)); err != nil {
		return err.Error()
	}
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `"id":2`) {
				return line
			}
		}
	}
}
