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
