package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamsync/roam/internal/image"
)

// evicted has a region given up once membership knows that its nodes are gone.
func evicted(t *testing.T, region string, by *site) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, errout, status := roam(t, "region", "evict", region, "--admin", by.admin, "--yes")
		if status == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not evicted: %s", region, errout)
		}
	}
}

// monas are a user's sessions.
func monas(i int) string { return fmt.Sprintf("mona/%d", i%8) }

// lostRegion has a region of several nodes lost, with what only it has acknowledged, answers too, and evicted.
func lostRegion(t *testing.T, list []*site, other *site) {
	t.Helper()
	d := user(t, "mona", "phone")
	for i := range 8 {
		must(t, d.connect(list[i%3], monas(i)))
		must(t, d.put(monas(i), msg("before", "text")))
		must(t, d.until("it is safe", func() bool { return d.safe["before"] }))
		d.drop()
		delete(d.safe, "before")
	}
	other.freeze()
	for i := range 8 {
		must(t, d.connect(list[i%3], monas(i)))
		for j := range 25 {
			must(t, d.put(monas(i), msg(fmt.Sprintf("only-%d", j), "text")))
		}
		must(t, d.put(monas(i), ask("q", words(8))))
		must(t, d.finished(monas(i), "q"))
		d.drop()
	}
	for _, s := range list {
		s.crash()
	}
	other.thaw()
	evicted(t, "beijing", other)
}

// TestSalvage: a region of three nodes and four groups is lost with what only it had acknowledged, answers too. It is evicted and rebuilt empty; one of its
// disks is found, and taken in while commands and leaders are killed. Then all is there, once, in both regions; another of its disks adds nothing.
func TestSalvage(t *testing.T) {
	t.Parallel()
	list, shanghai := grouped(t)
	lostRegion(t, list, shanghai)
	var found, admins []string
	for _, s := range list {
		found, admins = append(found, s.data+".found"), append(admins, s.admin)
		must(t, os.Rename(s.data, s.data+".found"))
	}
	for _, s := range list {
		must(t, s.startServe())
	}
	for _, s := range list {
		must(t, s.ready())
	}
	must(t, sameState(list))
	words := []string{"region", "salvage", "--data", found[1], "--admin", strings.Join(admins, ",")}
	if out := succeeds(t, words...); !strings.Contains(out, "nothing was done") {
		t.Errorf("without --yes it says %s", out)
	}
	killed, err := start("salvage", nil, binary, append(words, "--yes")...)
	must(t, err)
	_, err = killed.says("they go under")
	must(t, err)
	killed.kill()

	again, err := start("salvage", nil, binary, append(words, "--yes")...)
	must(t, err)
	_, err = again.says("they go under")
	must(t, err)
	must(t, killLeader(list))
	status, err := again.exit(patience)
	if must(t, err); status != 0 {
		t.Fatalf("while a leader was killed: %s", again.errout.all())
	}
	t.Log(again.out.all())
	shows := func() {
		t.Helper()
		for i := range 8 {
			for _, s := range append(list[:3:3], shanghai) {
				showsAll(t, s, monas(i))
			}
		}
	}
	shows()
	for _, dir := range found {
		out := succeeds(t, "region", "salvage", "--data", dir, "--admin", shanghai.admin, "--yes")
		if !strings.Contains(out, "\n0 ops taken in") && dir == found[1] {
			t.Errorf("again, in the other region, it says %s", out)
		}
	}
	shows()
	must(t, sameState(list))
}

// showsAll waits until a node shows all that was put to a session, once.
func showsAll(t *testing.T, s *site, session string) {
	t.Helper()
	const want = 28 // the first message, those that one region had, a question and its answer
	v := fresh(t, s, "mona", session)
	for deadline := time.Now().Add(patience); (len(v.Entries) != want || !v.Answered("q")) && time.Now().Before(deadline); {
		v = fresh(t, s, "mona", session)
	}
	if len(v.Entries) != want || !v.Answered("q") {
		t.Errorf("%s %s shows %d entries of %s, answered: %v", s.region, s.node, len(v.Entries), session, v.Answered("q"))
	}
}

// TestForkRepairs: a region's whole file system is put back, at once, to what it was, while the other region cannot say so, and numbers are given twice. When they meet, the region ends by
// itself; whatever starts it again is all that is needed: both regions show what was put before and after, once.
func TestForkRepairs(t *testing.T) {
	t.Parallel()
	const session = "nora/back"
	list := sites(t, "beijing", "shanghai")
	must(t, startAll(list))
	beijing, shanghai := list[0], list[1]
	d := user(t, "nora", "phone")
	put := func(what string) {
		t.Helper()
		must(t, d.connect(beijing, session))
		for i := range 12 {
			must(t, d.put(session, msg(fmt.Sprint(what, i), "text")))
		}
	}
	put("first")
	d.drop()
	beijing.serve.signal(syscall.SIGTERM)
	status, err := beijing.serve.exit(patience)
	if must(t, err); status != 0 {
		t.Fatalf("it ends with %d", status)
	}
	old := beijing.data + ".image"
	must(t, image.Copy(old, beijing.data))
	must(t, beijing.restart())
	put("second")
	must(t, d.until("it is safe", func() bool { return d.safe["second11"] }))
	d.drop()
	beijing.crash()
	shanghai.freeze()
	must(t, os.RemoveAll(beijing.data))
	must(t, os.Rename(old, beijing.data))
	must(t, beijing.restart())
	put("third")
	d.drop()
	shanghai.thaw()
	if status, err := beijing.serve.exit(patience); err != nil || status == 0 || !strings.Contains(beijing.serve.errout.all(), "disk has gone back in time") {
		t.Fatalf("it ends with %d, %v: %s", status, err, beijing.serve.errout.tail())
	}
	must(t, beijing.restart())
	_, err = beijing.serve.says("what only the state that was put aside had is taken in")
	must(t, err)
	for _, s := range list {
		v := fresh(t, s, "nora", session)
		for deadline := time.Now().Add(patience); len(v.Entries) != 36 && time.Now().Before(deadline); {
			v = fresh(t, s, "nora", session)
		}
		if len(v.Entries) != 36 {
			t.Errorf("%s shows %d entries", s.region, len(v.Entries))
		}
	}
	must(t, d.connect(beijing, session))
	must(t, d.until("the client is shown all", func() bool { return len(d.view(session).Entries) == 36 }))
}
