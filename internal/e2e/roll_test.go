package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// follow goes where a `move` says, as the protocol asks: it connects there first, and closes the old connection then. A node that cannot be reached is passed over.
func (k *talker) follow() error {
	f := k.move
	k.move = nil
	<-time.After(time.Duration(f.After) * time.Millisecond)
	old, why := k.conn, errors.New("a move names none of the region's nodes")
	for _, to := range f.To {
		for i, s := range k.nodes {
			if !strings.Contains(to.URL, s.client) {
				continue
			}
			if why = k.connect(s, k.session); why == nil {
				old.ws.CloseNow()
				k.at = i
				k.moved = append(k.moved, s.node)
				return nil
			}
			k.drop()
		}
	}
	k.conn = old
	return fmt.Errorf("%s cannot follow %s: %w", k.name, f.Raw, why)
}

// TestRollingRestartMovesClientsOnce ends and starts all nodes, one after the other, while clients put that heed `move`. No put fails, no connection
// breaks, and who is sent to another node is sent to one that has been restarted. As long as there is none, nobody knows better: the first node's clients
// may come to a node that is restarted later, and move twice.
func TestRollingRestartMovesClientsOnce(t *testing.T) {
	t.Parallel()
	for _, groups := range []string{"1", "4"} {
		t.Run(groups, func(t *testing.T) {
			t.Parallel()
			list := nodesOf(t, "beijing", 3)
			for _, s := range list {
				s.extra = append(s.extra, "--groups", groups)
			}
			must(t, startNodes(list))
			end := crowd(t, "gwen"+groups, list, talks{clients: 12, rest: 20 * time.Millisecond, heed: true, settled: true, check: func(t *testing.T, k *talker) {
				most := 1
				if k.first == list[0] {
					most = 2
				}
				if len(k.broke)+len(k.refused) > 0 || len(k.moved) > most || len(k.moved) == 0 {
					t.Errorf("%s, which began at %s, was sent to %v (at most %d are due); broken: %v, refused: %v", k.name, k.first.node, k.moved, most, k.broke, k.refused)
				}
			}})
			end(rollOver(list))
		})
	}
}

// tells waits until a node tells its clients of another one.
func tells(d *device, s, of *site) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		err := d.connect(s, d.user+"/asks")
		d.drop()
		if err != nil || strings.Contains(string(d.welcome.Regions), of.client) {
			return err
		}
	}
	return fmt.Errorf("%s does not tell of %s after %v", s.node, of.node, patience)
}

// TestRollingRestartWithASpareGateway: with a node without data that was started before, the first node's clients have somewhere to go that is not restarted, and stay there:
// each client is sent elsewhere once at the most. Those at the spare node notice nothing when the nodes are restarted that have their sessions.
func TestRollingRestartWithASpareGateway(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	spare := edgesOf(t, list, 1)[0]
	end := crowdAt(t, "hana", list, append(list[:3:3], spare), talks{clients: 12, begin: 3, rest: 20 * time.Millisecond, heed: true, settled: true, check: func(t *testing.T, k *talker) {
		if len(k.broke)+len(k.refused) > 0 || len(k.moved) != 1 || k.first == list[0] && k.moved[0] != spare.node {
			t.Errorf("%s, which began at %s, was sent to %v (once is due); broken: %v, refused: %v", k.name, k.first.node, k.moved, k.broke, k.refused)
		}
	}})
	<-time.After(time.Since(begun)) // who was started last is told by ages: those of the others are to be more than twice the spare one's, on any machine
	spared := user(t, "hana", "spared")
	must(t, errors.Join(spare.startServe(), spare.ready()))
	must(t, errors.Join(spared.connect(spare, "hana/spared"), tells(user(t, "hana", "asks"), list[0], spare)))
	end(errors.Join(rollOver(list), spared.put("hana/spared", msg("last", "still on the connection that it began with"))))
}
