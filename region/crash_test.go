package region

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// slowLog answers only once the watch has given up.
type slowLog struct {
	raft.LogStore
	failed <-chan struct{}
}

func (s slowLog) StoreLogs([]*raft.Log) error {
	<-s.failed
	return nil
}

type noMetrics struct{ prometheus.Registerer }

func (noMetrics) MustRegister(...prometheus.Collector) {}

// inFlight bounds what the child has under way.
const inFlight = 64

const crashDir = "ROAM_TEST_CRASH_DIR"

// TestCrashChild is no test of its own: TestCrashes runs it in a process to kill. It prints each oid that is
// acknowledged.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return
	}
	r, err := New(Config{Region: "beijing", Node: "n1", Dir: dir, MemtableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	acked := make(chan string, inFlight)
	slots := make(chan struct{}, inFlight)
	r.Watch(func(evs []wire.Event) {
		for _, e := range evs {
			if e.Tag != 0 {
				acked <- e.Session + " " + e.Placed[0].OID
				<-slots
			}
		}
	})
	go r.Run(context.Background())
	<-r.Ready()
	go func() {
		for i := 0; ; i++ {
			slots <- struct{}{}
			op := msg(fmt.Sprintf("%016x", rand.Uint64()), strings.Repeat("x", 200))
			op.Session = fmt.Sprintf("alice/%d", i%7)
			r.Submit(&wire.Put{Session: op.Session, Ops: []*crdt.Op{op}, Tag: uint64(i + 1)})
		}
	}()
	for line := range acked {
		fmt.Println("acked " + line)
	}
}

// TestCrashes kills a region at random moments. Whatever it had acknowledged is there after each restart, once, and
// numbers, hashes and digests hold.
func TestCrashes(t *testing.T) {
	t.Parallel() // it waits, mostly
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acked := map[string]map[string]bool{}
	total := 0
	for range 4 {
		for session, oids := range crash(t, dir, 1+rng.IntN(600)) {
			if acked[session] == nil {
				acked[session] = map[string]bool{}
			}
			for oid := range oids {
				acked[session][oid] = true
				total++
			}
		}
		s := start(t, "beijing", dir)
		checkAcked(t, s, acked)
		checkFeeds(t, s)
		s.stop()
	}
	t.Logf("%d acknowledged", total)
}

// crash runs a child until it has acknowledged n ops, kills it, and returns what it had said by then.
func crash(t *testing.T, dir string, n int) map[string]map[string]bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]map[string]bool{}
	lines := bufio.NewScanner(out)
	for count := 0; lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] != "acked" {
			t.Logf("child: %s", lines.Text())
			continue
		}
		if acked[f[1]] == nil {
			acked[f[1]] = map[string]bool{}
		}
		acked[f[1]][f[2]] = true
		if count++; count == n {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if len(acked) == 0 {
		t.Fatal("the child acknowledged nothing")
	}
	return acked
}

func checkAcked(t *testing.T, s *started, acked map[string]map[string]bool) {
	t.Helper()
	for session, oids := range acked {
		if err := s.View(session, func(st crdt.Store) {
			log, _ := crdt.Page(st, 0, 1<<30)
			found := map[string]int{}
			for i, e := range log {
				found[e.OID]++
				if e.Seq != uint64(i+1) {
					t.Errorf("%s: entry %d has seq %d", session, i, e.Seq)
				}
			}
			for oid := range oids {
				if found[oid] != 1 {
					t.Errorf("%s: acknowledged %s is there %d times", session, oid, found[oid])
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// checkFeeds walks every feed: no gaps, and each record's hash covers all before it.
func checkFeeds(t *testing.T, s *started) {
	t.Helper()
	for p := range uint8(crdt.Partitions) {
		head, hash := s.Cursors(p)[s.Self().ID()], wire.FeedStart(s.Self(), p)
		for f := uint64(1); f <= head; {
			rs, err := s.Feed(s.Self(), p, f, 64<<10)
			if err != nil || len(rs.Records) == 0 {
				t.Fatalf("partition %d at %d of %d: %v", p, f, head, err)
			}
			for _, r := range rs.Records {
				hash = hash.Next(r)
			}
			if hash != rs.Hash {
				t.Fatalf("partition %d: hash at %d does not hold", p, rs.Last())
			}
			f = rs.Last() + 1
		}
		if d, err := s.Digest(p); err != nil || d != s.recomputed(t, p) {
			t.Errorf("partition %d: digest %x, recomputed %x, %v", p, d, s.recomputed(t, p), err)
		}
	}
}
