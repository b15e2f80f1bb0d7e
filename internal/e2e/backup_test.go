package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// roam runs a command to its end, and returns what it wrote.
func roam(t *testing.T, args ...string) (out, errout string, status int) {
	t.Helper()
	p, err := start(args[0], nil, binary, args...)
	must(t, err)
	status, err = p.exit(patience)
	must(t, err)
	must(t, p.faults())
	return p.out.all(), p.errout.all(), status
}

// succeeds runs a command that must not fail.
func succeeds(t *testing.T, args ...string) (out string) {
	t.Helper()
	out, errout, status := roam(t, args...)
	if status != 0 {
		t.Fatalf("roam %s: status %d: %s", strings.Join(args, " "), status, errout)
	}
	return out
}

func digestsOf(t *testing.T, s *site) (all []string) {
	t.Helper()
	st, err := s.status()
	must(t, err)
	for _, p := range st.Partitions {
		all = append(all, p.Digest)
	}
	return all
}

// restored has all nodes of a region killed, their disks lost, and the region started from a backup.
func restored(t *testing.T, list []*site, file string) {
	t.Helper()
	for _, s := range list {
		s.crash()
		must(t, os.RemoveAll(s.data))
	}
	succeeds(t, "restore", "--data", list[0].data, "--in", file, "--region", list[0].region, "--node", list[0].node)
	for _, s := range list {
		must(t, s.restart())
	}
	must(t, sameState(list))
}

// TestBackupUnderLoad: a backup that is taken while clients talk has all that was acknowledged before it; one that is taken at
// rest is the state, digest for digest. Each is the region again, after all three nodes have lost their disks.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	dir := t.TempDir()
	busy, rest := filepath.Join(dir, "busy"), filepath.Join(dir, "rest")
	d := user(t, "karl", "phone")
	must(t, d.connect(list[0], "karl/before"))
	end := crowd(t, "karl", list, talks{clients: 9})
	for i := range 20 {
		must(t, d.put("karl/before", msg(strconv.Itoa(i), "text")))
	}
	succeeds(t, "backup", "--admin", list[1].admin, "--out", busy)
	end(nil)
	d.drop()
	succeeds(t, "backup", "--admin", list[2].admin, "--out", rest)
	want := digestsOf(t, list[2])

	restored(t, list, busy)
	for _, s := range list {
		if got := len(fresh(t, s, "karl", "karl/before").Entries); got != 20 {
			t.Errorf("%s: %d entries, 20 were acknowledged before the backup", s.node, got)
		}
	}
	crowd(t, "kurt", list, talks{clients: 6})(nil)

	restored(t, list, rest)
	for _, s := range list {
		if got := digestsOf(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: digests\n%v, at the backup\n%v", s.node, got, want)
		}
	}
}

// TestRecoverTheLastNode: all three nodes are killed, and two have lost their disks. The third is made the region, with all that it
// had in its log, and two empty ones join it.
func TestRecoverTheLastNode(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	d := user(t, "lea", "phone")
	must(t, d.connect(list[2], "lea/talk"))
	for i := range 50 {
		must(t, d.put("lea/talk", msg(strconv.Itoa(i), "text")))
	}
	must(t, sameState(list))
	for _, s := range list {
		s.crash()
	}
	d.drop()
	must(t, os.RemoveAll(list[1].data))
	must(t, os.RemoveAll(list[2].data))
	words := []string{"recover", "--data", list[0].data, "--region", "beijing", "--node", list[0].node}
	if _, errout, status := roam(t, words...); status != 1 || !strings.Contains(errout, "--yes is missing") {
		t.Errorf("without --yes: status %d, %s", status, errout)
	}
	out := succeeds(t, append(words, "--yes")...)
	if !strings.Contains(out, "recovered region beijing from node n1.") {
		t.Errorf("it says %s", out)
	}
	t.Log(out)
	for _, s := range list {
		must(t, s.restart())
	}
	must(t, sameState(list))
	for _, s := range list {
		if got := len(fresh(t, s, "lea", "lea/talk").Entries); got != 50 {
			t.Errorf("%s: %d entries, want 50", s.node, got)
		}
	}
	crowd(t, "lars", list, talks{clients: 6})(nil)
}
