package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// grouped is a region of three nodes with four Raft groups, and one of a node with one.
func grouped(t *testing.T) (list []*site, other *site) {
	t.Helper()
	all, err := makeSites(t.TempDir(), "beijing1", "beijing2", "beijing3", "shanghai")
	must(t, err)
	list, other = all[:3], all[3]
	join := strings.Join([]string{list[0].cluster, list[1].cluster, list[2].cluster}, ",")
	for i, s := range list {
		s.region, s.node, s.join, s.redisURL = "beijing", fmt.Sprintf("n%d", i+1), join, list[0].redisURL
		s.extra = append(s.extra, "--bootstrap-expect", "3", "--groups", "4")
	}
	other.join = join
	t.Cleanup(func() { endSites(t, all) })
	must(t, startNodes(list))
	must(t, other.start())
	return list, other
}

// leadersOf returns how many groups each node leads, by the status of one.
func leadersOf(s *site) (leads map[string]int, err error) {
	resp, err := (&http.Client{Timeout: patience}).Get("http://" + s.admin + "/v1/status")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var st struct {
		Raft struct{ Groups []struct{ Leader string } }
	}
	leads = map[string]int{}
	err = json.NewDecoder(resp.Body).Decode(&st)
	for _, g := range st.Raft.Groups {
		if g.Leader != "" {
			leads[g.Leader]++
		}
	}
	return leads, err
}

// spreadOver waits until so many nodes lead all four groups.
func spreadOver(s *site, nodes int) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var leads map[string]int
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		var err error
		if leads, err = leadersOf(s); err != nil {
			return err
		}
		led := 0
		for _, n := range leads {
			led += n
		}
		if led == 4 && len(leads) == nodes {
			return nil
		}
	}
	return fmt.Errorf("%s: after %v the leaders are %v", s.node, patience, leads)
}

// TestGroups kills nodes of a region with four groups, each of which leads some of them, while clients talk and answers are
// on their way in many sessions. All that was acknowledged is there once, on every node, and in a region with one group.
func TestGroups(t *testing.T) {
	t.Parallel()
	list, other := grouped(t)
	must(t, spreadOver(list[0], 3))
	asker := user(t, "gina", "asker")
	text := words(60)
	var sessions []string
	for i := range 8 {
		sessions = append(sessions, "gina/answer-"+strconv.Itoa(i))
	}
	must(t, asker.connect(other, sessions...)) // the only node that is not killed
	for i, s := range sessions {
		if i%2 == 0 { // the others are asked in the region of the groups
			must(t, asker.put(s, ask("q", text)))
			continue
		}
		d := user(t, "gina", "d"+strconv.Itoa(i))
		must(t, d.connect(list[i%3], s))
		must(t, d.put(s, ask("q", text)))
		d.drop()
	}
	end := crowd(t, "gina", list, talks{clients: 9})
	var killing error
	for _, s := range list {
		s.crash()
		var rest *site
		for _, o := range list {
			if o != s {
				rest = o
			}
		}
		killing = errors.Join(killing, spreadOver(rest, 2), s.restart())
	}
	end(killing)
	must(t, spreadOver(list[0], 3))
	for _, s := range sessions {
		must(t, asker.finished(s, "q"))
		wants(t, asker.view(s), "q", text)
	}
	must(t, sameState(append(list[:3:3], other)))
}

// TestGroupsRollingRestart: a node hands over all groups that it leads before it ends.
func TestGroupsRollingRestart(t *testing.T) {
	t.Parallel()
	list := nodesOf(t, "beijing", 3)
	for _, s := range list {
		s.extra = append(s.extra, "--groups", "4")
	}
	must(t, startNodes(list))
	must(t, spreadOver(list[0], 3))
	roll(t, "hugo", list)
	must(t, spreadOver(list[0], 3))
}

// TestOtherNumberOfGroups: a node that is told another number of groups than its region has says what to do, and ends.
func TestOtherNumberOfGroups(t *testing.T) {
	t.Parallel()
	list, err := makeSites(t.TempDir(), "beijing")
	must(t, err)
	t.Cleanup(func() { endSites(t, list) })
	s := list[0].embedded()
	s.extra = append(s.extra, "--groups", "2")
	must(t, errors.Join(s.startServe(), s.ready()))
	s.crash()
	s.extra[len(s.extra)-1] = "8"
	must(t, s.startServe())
	if code, err := s.serve.exit(patience); code == 0 || err != nil || !strings.Contains(s.serve.errout.tail(), "--groups 2") {
		t.Errorf("status %d, %v: %s", code, err, s.serve.errout.tail())
	}
	s.extra = s.extra[:len(s.extra)-2]
	must(t, s.restart())
}
