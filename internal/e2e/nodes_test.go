package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodesOf returns the nodes of one region: they share a Redis, and each is told to join all others.
func nodesOf(t *testing.T, region string, n int) []*site {
	t.Helper()
	dir := t.TempDir()
	var regions []string
	for i := range n {
		regions = append(regions, fmt.Sprintf("%s%d", region, i+1))
	}
	list, err := makeSites(dir, regions...)
	must(t, err)
	var all []string
	for _, s := range list {
		all = append(all, s.cluster)
	}
	for i, s := range list {
		s.region, s.node = region, fmt.Sprintf("n%d", i+1)
		s.join, s.redisURL = strings.Join(all, ","), list[0].redisURL
		s.extra = append(s.extra, "--bootstrap-expect", strconv.Itoa(n))
	}
	t.Cleanup(func() { endSites(t, list) })
	return list
}

// startNodes starts a region: its Redis, its nodes, and a worker.
func startNodes(list []*site) error {
	errs := []error{list[0].startRedis(), list[0].startWorker()}
	for _, s := range list {
		errs = append(errs, s.startServe())
	}
	for _, s := range list {
		errs = append(errs, s.ready())
	}
	return errors.Join(errs...)
}

// nodeStatus is what a test reads of /v1/status.
type nodeStatus struct {
	Raft struct {
		Leads   bool
		Nodes   []struct{ ID, Node, Role string }
		Size    int
		Pending []string
	}
	Partitions []struct {
		Cursors map[string]uint64
		Digest  string
	}
}

func (s *site) status() (st nodeStatus, err error) {
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + s.admin + "/v1/status")
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// incarnations is under how many a region has numbered something, as one of its nodes knows.
func incarnations(t *testing.T, s *site) int {
	t.Helper()
	st, err := s.status()
	must(t, err)
	all := map[string]bool{}
	for _, p := range st.Partitions {
		for origin := range p.Cursors {
			all[origin] = true
		}
	}
	return len(all)
}

// leaderOf waits until one of the nodes leads, and returns it.
func leaderOf(list []*site) (*site, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		for _, s := range list {
			if st, err := s.status(); err == nil && st.Raft.Leads {
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("none of %d nodes leads after %v", len(list), patience)
}

// sameState waits until all nodes have the same cursors, and then holds their digests together.
func sameState(list []*site) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		var cursors, digests []string
		for _, s := range list {
			st, err := s.status()
			if err != nil {
				return err
			}
			c, d := "", ""
			for _, p := range st.Partitions {
				c, d = c+fmt.Sprint(p.Cursors), d+p.Digest+" "
			}
			cursors, digests = append(cursors, c), append(digests, d)
		}
		same := true
		for i := range list {
			same = same && cursors[i] == cursors[0]
			if same && digests[i] != digests[0] {
				return fmt.Errorf("%s and %s: equal cursors, digests\n%s\n%s", list[0].node, list[i].node, digests[0], digests[i])
			}
		}
		if same {
			return nil
		}
	}
	return fmt.Errorf("the nodes have not come to the same cursors after %v", patience)
}

// talker is a client that says one thing after the other, at whichever node answers, and never forgets what it has not
// been told is stored.
type talker struct {
	*device
	session string
	nodes   []*site
	at      int
	rnd     *rand.Rand
	said    int
	rest    time.Duration // between an ok and the next message
	pause   time.Duration // the longest time between a message and its ok
	waits   []wait        // of over longWait
	first   *site         // where it began
	started func()        // called when its first message was taken, or it has ended
	heed    bool          // moves
	moved   []string      // nodes that it was sent to
	broke   []string      // nodes whose connection broke, or was refused
	refused []error       // puts
}

// talk goes on until stop is closed. What is under way then is still brought to its ok.
func (k *talker) talk(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(time.Duration(k.rnd.Float64() * 2 * float64(k.rest))): // people take their time
		}
		if err := k.say(fmt.Sprintf("%s-%d", k.name, k.said)); err != nil {
			return err
		}
		k.said++
		k.started()
		if k.heed && k.move != nil {
			if err := k.follow(); err != nil {
				return err
			}
		}
	}
}

func (k *talker) say(oid string) error {
	w := wait{who: k.name, begin: time.Now()}
	deadline := w.begin.Add(patience)
	for {
		steps, err := k.try(oid)
		w.tries = append(w.tries, try{k.nodes[k.at%len(k.nodes)].node, steps, err})
		if err == nil {
			w.end = time.Now()
			k.waited(w)
			return nil
		}
		if c := code(err); c != "" && c != "unavailable" || time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", oid, err)
		}
		if r := (errRefused{}); errors.As(err, &r) && r.ID != 0 { // one without an id is the connection's end
			k.refused = append(k.refused, err)
		}
		k.broke = append(k.broke, k.nodes[k.at%len(k.nodes)].node)
		k.drop()
		k.at++
		<-time.After(time.Duration(k.rnd.Int64N(int64(100 * time.Millisecond)))) // backs off, as clients do
	}
}

func (k *talker) waited(w wait) {
	k.pause = max(k.pause, w.took())
	if w.took() > longWait {
		k.waits = append(k.waits, w)
	}
}

// try says something once, and returns what it did and how long that took.
func (k *talker) try(oid string) (steps string, err error) {
	begun := time.Now()
	if k.conn == nil {
		if err := k.connect(k.nodes[k.at%len(k.nodes)], k.session); err != nil {
			return fmt.Sprintf("connect %.3fs", time.Since(begun).Seconds()), err
		}
		steps, begun = fmt.Sprintf("connect %.3fs, ", time.Since(begun).Seconds()), time.Now()
	}
	err = k.put(k.session, msg(oid, "said by "+k.name))
	return fmt.Sprintf("%sput %.3fs", steps, time.Since(begun).Seconds()), err
}

// calm says what a client was not spared.
func (k *talker) calm() error {
	if len(k.refused) > 0 {
		return fmt.Errorf("%s: %d puts were refused: %w", k.name, len(k.refused), k.refused[0])
	}
	if broke := slices.Sorted(slices.Values(k.broke)); len(slices.Compact(broke)) < len(k.broke) {
		return fmt.Errorf("%s had to connect anew because of %v", k.name, k.broke)
	}
	return nil
}

// kills is how many leaders TestLeaderKilled kills.
func kills(t *testing.T) int {
	t.Helper()
	s := os.Getenv("E2E_KILLS")
	if s == "" {
		return 3
	}
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// TestLeaderKilled kills the leader of a region of three, again and again, while clients of all nodes talk and an answer
// is on its way, and looks for everything that was acknowledged, once, on every node.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	asker := user(t, "dora", "asker")
	must(t, asker.connect(list[1], "dora/answer"))
	text := words(40 * kills(t))
	must(t, asker.put("dora/answer", ask("q", text)))

	end := crowd(t, "dora", list, talks{clients: 9})
	var killing error
	for n := 0; n < kills(t) && killing == nil; n++ {
		killing = killLeader(list)
	}
	end(killing)
	if asker.finished("dora/answer", "q") != nil { // its node may be one of those that died
		asker.drop()
		must(t, asker.connect(list[0], "dora/answer"))
		must(t, asker.finished("dora/answer", "q"))
	}
	wants(t, asker.view("dora/answer"), "q", text)
	t.Logf("%d leaders were killed, %d incarnations", kills(t), incarnations(t, list[0]))
}

// talks says how a crowd talks.
type talks struct {
	clients int
	rest    time.Duration // of each client between two messages
	within  time.Duration // how long a client waits for an answer before it goes to another node; 0: patience
	// handshake is how long it waits for a connection before it does; 0: within.
	handshake time.Duration
	calm      bool   // no put is refused, and no node breaks a client's connection, or refuses it, more than once
	diary     *diary // if set, the longest waits are told with what happened then
	heed      bool   // they go where a node that ends sends them
	begin     int    // at how many of the doors they begin; 0: all
	settled   bool   // crowd returns when each of them has had a message taken
	check     func(*testing.T, *talker)
}

// crowd has clients talk, three in a session, at all nodes. end stops them, and checks that all that was acknowledged
// is there once, on every node.
func crowd(t *testing.T, name string, list []*site, how talks) (end func(error)) {
	t.Helper()
	return crowdAt(t, name, list, list, how)
}

// crowdAt is crowd with clients that connect to doors, which need not be the nodes that hold the data.
func crowdAt(t *testing.T, name string, list, doors []*site, how talks) (end func(error)) {
	t.Helper()
	var talkers []*talker
	stop, done := make(chan struct{}), make(chan error)
	var first sync.WaitGroup
	for i := range how.clients {
		k := &talker{
			device: user(t, name, fmt.Sprintf("t%d", i)), session: fmt.Sprintf("%s/talk-%d", name, i/3), nodes: doors, at: i % cmp.Or(how.begin, len(doors)),
			rnd: rand.New(rand.NewPCG(1, uint64(i))), rest: how.rest, heed: how.heed,
		}
		k.first = doors[k.at]
		k.within, k.handshake = cmp.Or(how.within, patience), how.handshake
		talkers = append(talkers, k)
		first.Add(1)
		k.started = sync.OnceFunc(first.Done)
		go func() {
			err := k.talk(stop)
			k.started()
			done <- err
		}()
	}
	if how.settled {
		first.Wait()
	}
	return func(err error) {
		t.Helper()
		close(stop)
		for range talkers {
			err = errors.Join(err, <-done)
		}
		must(t, err)
		for _, k := range talkers {
			if err := k.calm(); how.calm && err != nil {
				t.Error(err)
			}
			if how.check != nil {
				how.check(t, k)
			}
		}
		must(t, sameState(list)) // what is acknowledged is shown by any node soon, not at once
		var slowest time.Duration
		said := map[string]int{}
		for _, k := range talkers {
			slowest = max(slowest, k.pause)
			said[k.session] += k.said
		}
		for session, n := range said {
			for _, s := range list {
				if got := len(fresh(t, s, name, session).Entries); got != n {
					t.Errorf("%s: %d entries at %s, %d were acknowledged", session, got, s.node, n)
				}
			}
		}
		if how.diary != nil {
			var waits []wait
			for _, k := range talkers {
				waits = append(waits, k.waits...)
			}
			how.diary.tell(t, waits, 40)
		}
		all := 0
		for _, n := range said {
			all += n
		}
		t.Logf("%d messages were acknowledged; the longest wait of any client was %v", all, slowest)
	}
}

// TestRollingRestart ends and starts all nodes of a region, one after the other, while clients talk: each hands the lead
// over if it has it, exits 0, and nothing fails: no put, and no client has to connect more often than its nodes were restarted.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	roll(t, "finn", list)
}

// roll restarts one node after the other.
func roll(t *testing.T, name string, list []*site) {
	t.Helper()
	end := crowd(t, name, list, talks{clients: 9, calm: true})
	end(rollOver(list))
}

// rollOver restarts one node after the other, each when the one before takes clients again.
func rollOver(list []*site) (failed error) {
	for _, s := range list {
		s.serve.signal(syscall.SIGTERM)
		code, err := s.serve.exit(patience)
		if code != 0 {
			err = errors.Join(err, fmt.Errorf("%s: exit status %d", s.node, code))
		}
		failed = errors.Join(failed, err, s.restart())
	}
	return failed
}

func killLeader(list []*site) error {
	lead, err := leaderOf(list)
	if err != nil {
		return err
	}
	lead.crash()
	var rest []*site
	for _, s := range list {
		if s != lead {
			rest = append(rest, s)
		}
	}
	if _, err := leaderOf(rest); err != nil {
		return err
	}
	return lead.restart()
}

// TestNodeReplaced loses a node's disk and starts it again: it becomes one of three anew, and the region goes on all the
// time. A node that was told the same name but lives elsewhere is refused.
func TestNodeReplaced(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	d := user(t, "emil", "phone")
	must(t, d.connect(list[0], "emil/x"))
	for i := range 50 {
		must(t, d.put("emil/x", msg(fmt.Sprintf("m%d", i), "kept")))
	}
	lost := list[2]
	lost.crash()
	must(t, os.RemoveAll(lost.data))
	must(t, d.put("emil/x", msg("meanwhile", "kept")))
	must(t, lost.restart())
	must(t, sameState(list))
	if got := len(fresh(t, lost, "emil", "emil/x").Entries); got != 51 {
		t.Errorf("%d entries, want 51", got)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		st, err := list[0].status()
		must(t, err)
		votes := 0
		for _, n := range st.Raft.Nodes {
			if n.Role == "leader" || n.Role == "voter" {
				votes++
			}
		}
		if votes == 3 && len(st.Raft.Nodes) == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after %v the nodes are %+v", patience, st.Raft.Nodes)
		}
	}
	list[0].crash() // the new one's vote counts
	must(t, d.connect(list[1], "emil/x"))
	must(t, d.put("emil/x", msg("after", "kept")))
}
