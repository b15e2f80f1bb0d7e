package bubble

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/app"
	"github.com/roamsync/roam/internal/memnet"
)

// safe is where the operator of a world keeps its CAs, and what its nodes read.
type safe struct {
	w   *world
	dir string
}

// settle is how long after a change of files every node has them.
const settle = 5 * time.Second

// newSafe gives every node a key ring, and a certificate of a CA.
func newSafe(w *world) *safe {
	s := &safe{w: w, dir: w.t.TempDir()}
	s.ca("old")
	ring := filepath.Join(s.dir, "ring")
	s.write(ring, s.keygen(app.KeygenOptions{}))
	w.ring = nil
	s.eachNode(func(n *node) {
		s.must(os.MkdirAll(s.file(n, ""), 0o700))
		n.opts.SecretFile, n.opts.TLSCA = s.file(n, "ring"), s.file(n, "ca.crt")
		n.opts.TLSCert, n.opts.TLSKey = s.file(n, s.pair(n)+".crt"), s.file(n, s.pair(n)+".key")
		s.copyRing(n)
		s.trust(n, "old")
		s.certify(n, "old")
	})
	b, err := app.ReadKeyRing(ring)
	s.must(err)
	w.ring = b
	return s
}

func (s *safe) must(err error) {
	s.w.t.Helper()
	if err != nil {
		s.w.t.Fatal(err)
	}
}

func (s *safe) eachNode(do func(*node)) {
	for _, r := range s.w.regions {
		for _, n := range r.nodes {
			do(n)
		}
	}
}

func (s *safe) file(n *node, name string) string { return filepath.Join(s.dir, n.place, name) }

func (*safe) pair(n *node) string { return n.opts.Region + "." + n.opts.Node }

func (s *safe) write(path, what string) { s.must(os.WriteFile(path, []byte(what), 0o600)) }

func (s *safe) read(path string) string {
	b, err := os.ReadFile(path)
	s.must(err)
	return string(b)
}

// ca makes a CA of that name.
func (s *safe) ca(name string) {
	s.must(app.CertsCA(app.CertsCAOptions{Out: filepath.Join(s.dir, name), Days: 30}, time.Now(), io.Discard))
}

// trust has a node trust CAs.
func (s *safe) trust(n *node, cas ...string) {
	all := ""
	for _, name := range cas {
		all += s.read(filepath.Join(s.dir, name, "ca.crt"))
	}
	s.write(n.opts.TLSCA, all)
}

// certify gives a node a fresh certificate.
func (s *safe) certify(n *node, ca string) {
	s.must(app.CertsNode(app.CertsNodeOptions{
		CA: filepath.Join(s.dir, ca), Region: n.opts.Region, Node: n.opts.Node, Days: 10, Out: s.file(n, ""), Replace: true,
	}, time.Now(), io.Discard))
}

func (s *safe) keygen(o app.KeygenOptions) string {
	var b strings.Builder
	s.must(app.Keygen(o, &b))
	return b.String()
}

func (s *safe) copyRing(n *node) { s.write(n.opts.SecretFile, s.read(filepath.Join(s.dir, "ring"))) }

// metric adds up what a node's metric shows whose labels have all the words.
func (n *node) metric(name string, words ...string) (sum float64) {
	n.w.t.Helper()
	resp, err := n.w.operator().Get("http://" + n.opts.AdminAddr + "/metrics")
	if err != nil {
		n.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.w.t.Fatal(err)
	}
lines:
	for line := range strings.Lines(string(b)) {
		labels, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(labels, name+"{") {
			continue
		}
		for _, word := range words {
			if !strings.Contains(labels, word) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			n.w.t.Fatal(line, err)
		}
		sum += v
	}
	return sum
}

// chatter has devices talk while something is done, and waits until all that they said is safe.
func (w *world) chatter(devices []*device, do func()) {
	w.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, d := range devices {
				d.say()
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	func() {
		defer func() { close(stop); <-done }() // also if the test fails
		do()
	}()
	for _, d := range devices {
		d.wait(d.say(), client.Safe)
	}
}

// reconnect ends all connections between regions, and has a node of Beijing come back: those that follow are made with what
// the nodes have now.
func (w *world) reconnect(i int) {
	w.cutBoth("beijing", "shanghai", memnet.Break)
	pass(time.Second)
	w.cutBoth("beijing", "shanghai", memnet.Open)
	n := w.region("beijing").nodes[i]
	n.stop()
	n.start()
	w.await("all nodes serve", w.ready)
	pass(settle)
}

// quiet has a test fail if a node was refused by another, or lost to membership. Connections that are older than a node's last
// certificate may have ended with the CA of the one before.
func (s *safe) quiet() {
	s.w.t.Helper()
	s.eachNode(func(n *node) {
		for _, m := range [][]string{
			{"roam_tls_refused_total", "certificate"}, {"roam_tls_refused_total", "expired"}, {"roam_tls_refused_total", "identity"},
			{"roam_tls_refused_total", "clear"}, {"roam_tls_refused_total", "handshake"},
			{"roam_replication_gossip_refused_total"}, {"roam_replication_refused_total", "secret"},
			{"roam_replication_refused_total", "identity"}, {"roam_files_reloaded_total", "refused"},
		} {
			if v := n.metric(m[0], m[1:]...); v != 0 {
				s.w.t.Errorf("%s: %v is %v", n.place, m, v)
			}
		}
	})
}

// withSecrets runs a test in a world whose nodes have files, and two devices.
func withSecrets(t *testing.T, seed uint64, test func(w *world, s *safe, devices []*device)) {
	t.Helper()
	var s *safe
	report(t, brokenIn(t, seed, three, func(w *world) { s = newSafe(w) }, func(w *world) {
		test(w, s, []*device{w.newDevice("alice", "phone", trip, "beijing"), w.newDevice("alice", "laptop", trip, "shanghai")})
	}))
}

// TestCertificatesAreExchanged: under traffic every node gets a fresh certificate, another CA is added, used, and the old one
// removed. Nothing is lost, nobody is refused, and in the end the old CA is worth nothing.
func TestCertificatesAreExchanged(t *testing.T) {
	withSecrets(t, 21, func(w *world, s *safe, devices []*device) {
		s.ca("fresh")
		w.chatter(devices, func() {
			for i, step := range []func(*node){
				func(n *node) { s.certify(n, "old") },
				func(n *node) { s.trust(n, "old", "fresh") },
				func(n *node) { s.certify(n, "fresh") },
				func(n *node) { s.trust(n, "fresh") },
			} {
				s.eachNode(step)
				pass(settle)
				w.reconnect(i % 3)
			}
		})
		s.quiet()
		s.eachNode(func(n *node) {
			// A node that was restarted counts anew: the last was.
			if got := n.metric("roam_files_reloaded_total", `"tls"`, "taken"); got < 1 && n != w.region("beijing").nodes[0] {
				t.Errorf("%s has taken %v changes", n.place, got)
			}
		})
		late := w.region("shanghai").nodes[0]
		late.stop()
		s.trust(late, "old", "fresh")
		s.certify(late, "old")
		late.start()
		w.await("shanghai serves", w.ready)
		devices[0].wait(devices[0].say(), client.Stored) // beijing is none the worse
		w.await("beijing refuses a certificate of the CA that was removed", func() bool {
			refused := 0.0
			for _, n := range w.region("beijing").nodes {
				refused += n.metric("roam_tls_refused_total", "certificate")
			}
			return refused > 0
		})
		s.certify(late, "fresh") // and it comes back by itself
		devices[0].wait(devices[0].say(), client.Safe)
	})
}

// TestRemovedCAEndsConnections: whoever still has a certificate of a CA that is removed is cut off at once, and is back as soon as
// it has another.
func TestRemovedCAEndsConnections(t *testing.T) {
	withSecrets(t, 22, func(w *world, s *safe, devices []*device) {
		devices[1].wait(devices[1].say(), client.Safe)
		s.ca("fresh")
		late := w.region("shanghai").nodes[0]
		s.eachNode(func(n *node) { s.trust(n, "old", "fresh") })
		pass(settle)
		s.eachNode(func(n *node) {
			if n != late {
				s.certify(n, "fresh")
			}
		})
		pass(settle)
		w.chatter(devices[:1], func() {
			s.eachNode(func(n *node) {
				if n != late {
					s.trust(n, "fresh")
				}
			})
			pass(settle)
			removed := 0.0
			for _, n := range w.region("beijing").nodes {
				removed += n.metric("roam_tls_refused_total", "removed")
			}
			if removed == 0 {
				t.Error("no connection ended")
			}
			devices[0].wait(devices[0].say(), client.Stored)
			s.certify(late, "fresh")
		})
	})
}

// TestKeysAreExchanged: under traffic a key is added, used, and the old one removed, node by node. No member is lost and no put
// refused, and a ring that shares no key with the one in use is not taken.
func TestKeysAreExchanged(t *testing.T) {
	withSecrets(t, 23, func(w *world, s *safe, devices []*device) {
		ring := filepath.Join(s.dir, "ring")
		w.chatter(devices, func() {
			for i, o := range []app.KeygenOptions{{Add: ring}, {Use: ring}, {Drop: ring}} {
				s.keygen(o)
				s.eachNode(func(n *node) {
					s.copyRing(n)
					pass(settle) // some have it and others do not
				})
				w.reconnect(i)
			}
		})
		s.quiet()
		n := w.region("shanghai").nodes[0]
		if got := n.metric("roam_files_reloaded_total", "secret", "taken"); got != 3 {
			t.Errorf("%v changes were taken", got)
		}
		s.write(n.opts.SecretFile, s.keygen(app.KeygenOptions{}))
		pass(settle)
		if got := n.metric("roam_files_reloaded_total", "secret", "refused"); got != 1 {
			t.Errorf("a ring of strangers was taken; %v refused", got)
		}
		w.chatter(devices, func() { pass(settle) })
	})
}

// TestFromClearToTLS: nodes that run in the clear get certificates, one after the other, under traffic; then they stop to speak with
// those that have none.
func TestFromClearToTLS(t *testing.T) {
	clear := func(o *app.ServeOptions) { o.TLSOptions = app.TLSOptions{} }
	var s *safe
	with := map[*node]app.TLSOptions{}
	report(t, brokenIn(t, 25, three, func(w *world) {
		s = newSafe(w)
		s.eachNode(func(n *node) {
			with[n] = n.opts.TLSOptions
			clear(&n.opts)
		})
	}, func(w *world) {
		devices := []*device{w.newDevice("alice", "phone", trip, "beijing"), w.newDevice("alice", "laptop", trip, "shanghai")}
		w.chatter(devices, func() {
			for _, migrate := range []bool{true, false} {
				s.eachNode(func(n *node) {
					n.stop()
					n.opts.TLSOptions = with[n]
					n.opts.TLSMigrate = migrate
					n.start()
					w.await("all nodes serve", w.ready)
				})
			}
		})
		s.quiet()
		n := w.region("shanghai").nodes[0]
		n.stop()
		clear(&n.opts)
		n.start()
		w.await("shanghai serves", w.ready)
		w.await("who speaks in the clear is refused", func() bool {
			refused := 0.0
			for _, n := range w.region("beijing").nodes {
				refused += n.metric("roam_tls_refused_total", `"clear"`)
			}
			return refused > 0
		})
		n.stop()
		n.opts.TLSOptions = with[n]
		n.start()
	}))
}

// TestHalfWrittenFiles: files that are cut short, or missing, change nothing, and are counted.
func TestHalfWrittenFiles(t *testing.T) {
	withSecrets(t, 24, func(w *world, s *safe, devices []*device) {
		n := w.region("beijing").nodes[0]
		w.chatter(devices, func() {
			for i, path := range []string{n.opts.TLSCA, n.opts.TLSCert, n.opts.TLSKey} {
				whole := s.read(path)
				s.write(path, whole[:len(whole)/2])
				pass(settle)
				if got := n.metric("roam_files_reloaded_total", `"tls"`, "refused"); got != float64(i+1) {
					t.Errorf("%v are refused after %d files were cut short", got, i+1)
				}
				w.reconnect(1)
				s.write(path, whole)
				pass(settle)
			}
			whole := s.read(n.opts.SecretFile)
			s.write(n.opts.SecretFile, whole[:len(whole)-10])
			pass(settle)
			s.must(os.Remove(n.opts.SecretFile))
			pass(settle)
			if got := n.metric("roam_files_reloaded_total", "secret", "refused"); got != 2 {
				t.Errorf("%v are refused", got)
			}
			w.reconnect(2)
			s.write(n.opts.SecretFile, whole)
		})
		if refused := n.metric("roam_tls_refused_total"); refused != 0 {
			t.Error(fmt.Sprint("a peer was refused: ", refused))
		}
	})
}
