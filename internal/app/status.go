package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region"
)

// StatusOptions is what `roam status` is told.
type StatusOptions struct {
	Admin   string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node of the region."`
	JSON    bool          `name:"json" help:"Print all of it as JSON, by partition."`
	Timeout time.Duration `default:"5s" help:"How long to wait for the node's answer."`
}

// maxStatus bounds what is read of an answer.
const maxStatus = 64 << 20

// Status asks a node how things are and prints that.
func Status(ctx context.Context, o StatusOptions, stdout io.Writer) error {
	if o.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: above 0", o.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	resp, err := send(ctx, o.Admin, http.MethodGet, "/v1/status", content{})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return fmt.Errorf("--admin %s: %w", o.Admin, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("--admin %s answers %s: it is no admin address of roam", o.Admin, resp.Status)
	}
	if o.JSON {
		_, err := stdout.Write(body)
		return err
	}
	var edge edgeStatus
	if json.Unmarshal(body, &edge) == nil && edge.Gateway {
		return edge.print(stdout)
	}
	var s status
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("--admin %s: not a status: %w", o.Admin, err)
	}
	return s.print(stdout)
}

func readiness(ready bool) string {
	if ready {
		return "ready"
	}
	return "not ready"
}

// printClock says it if the machine's clock is wrong.
func (s *status) printClock(w io.Writer) {
	c := s.Clock
	if c.Correction == 0 {
		return
	}
	by, where := c.Ahead, "ahead of"
	if by < 0 {
		by, where = -by, "behind"
	}
	fmt.Fprintf(w, "CLOCK: this machine's is %s %s the median of its own and %d other nodes'. What the node shows and stamps is set right; set the machine's (NTP).\n",
		by.Round(time.Millisecond), where, c.Nodes)
}

func (s *edgeStatus) print(w io.Writer) error {
	defer s.Security.print(w, time.Now())
	through := make([]string, len(s.Through))
	for i, t := range s.Through {
		switch through[i] = fmt.Sprintf("%s (%d clients)", t.Addr, t.Clients); {
		case t.Gone:
			through[i] = t.Addr + " (gone)"
		case t.Clients == 1:
			through[i] = t.Addr + " (1 client)"
		}
	}
	_, err := fmt.Fprintf(w, "region %s, node %s: %s. It holds no data, and serves clients through %s.\n",
		s.Region, s.Node, readiness(s.Ready), cmp.Or(strings.Join(through, ", "), "nobody, since no node that holds data is up"))
	return err
}

func (s *status) print(w io.Writer) error {
	fmt.Fprintf(w, "region %s, node %s: %s.", s.Region, s.Node, readiness(s.Ready))
	if groups := s.Raft.Groups; len(groups) == 1 {
		fmt.Fprintf(w, " Issues as %s, entry %d of term %d, log from %d to %d.",
			cmp.Or(string(s.Origin), "nobody yet"), s.Raft.Applied, s.Raft.Term, s.Raft.FirstLog, s.Raft.LastLog)
	}
	wanted := fmt.Sprintf("%d nodes are", s.Raft.Size)
	if s.Raft.Size == 1 {
		wanted = "1 node is"
	}
	fmt.Fprintf(w, "\nFeature level %d, %s wanted to vote.\n", s.Raft.Committed, wanted)
	for _, p := range s.Raft.Pending {
		fmt.Fprintf(w, "Pending: %s.\n", p)
	}
	s.Security.print(w, time.Now())
	s.printClock(w)
	s.printDisk(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	s.printGroups(t)
	fmt.Fprintln(t, "\nNODE\tROLE\tMEMBERSHIP\tAPPLIED\tLEVEL\tADDRESS")
	for _, n := range s.Raft.Nodes {
		alive, applied, level := "alive", fmt.Sprint(n.Applied), fmt.Sprint(n.Level)
		if !n.Alive {
			alive = "gone"
		}
		if n.Error != "" {
			applied, level = "-", "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", n.ID, n.Role, alive, applied, level, cmp.Or(n.Addr, "-"))
	}
	s.printTaking(t)
	s.printRegions(t)
	s.printMatrix(t)
	s.printWays(t)
	s.printTCP(t)
	s.printTransfers(t)
	err := t.Flush()
	for _, n := range s.Raft.Nodes {
		if n.Error != "" && (n.Alive || n.Role != "not in the group") {
			fmt.Fprintf(w, "\n%s: %s\n", n.ID, n.Error)
		}
	}
	return errors.Join(err)
}

// printDisk shows how much room there is, if the disk says so.
func (s *status) printDisk(w io.Writer) {
	d := s.Raft.Disk
	if d.Total == 0 {
		return
	}
	fmt.Fprintf(w, "disk: %d of %d MiB free; puts are refused below %d MiB", d.Free>>20, d.Total>>20, d.Reserve>>20)
	if d.Low {
		fmt.Fprint(w, ": REFUSED NOW, by groups that this node leads")
	}
	fmt.Fprintln(w)
}

// printGroups shows the groups of a region that has several.
func (s *status) printGroups(t io.Writer) {
	if len(s.Raft.Groups) < 2 {
		return
	}
	fmt.Fprintln(t, "\nGROUP\tPARTITIONS\tLEADER\tISSUES AS\tTERM\tAPPLIED\tLOG")
	for _, g := range s.Raft.Groups {
		fmt.Fprintf(t, "%d\t%d-%d\t%s\t%s\t%d\t%d\t%d-%d\n", g.Group, g.Partitions[0], g.Partitions[1], cmp.Or(g.Leader, "-"),
			cmp.Or(g.Origin, "-"), g.Term, g.Applied, g.FirstLog, g.LastLog)
	}
}

// printTaking shows which nodes take the state of a group from another node.
func (s *status) printTaking(t io.Writer) {
	const head = "\nTAKES THE STATE\tGROUP\tFROM\tKEYS\tMIB\tHELD ALREADY\tFOR\tTRY"
	said := false
	for _, n := range s.Raft.Nodes {
		for _, k := range n.Taking {
			if !said {
				fmt.Fprintln(t, head)
				said = true
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%.1f\t%.1f\t%d s\t%d\n", n.ID, k.Group, k.From, k.Keys, mib(k.Bytes), mib(k.Own), k.Seconds, k.Tries)
		}
	}
}

func mib(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// printTransfers shows which partitions' states are on their way from other regions.
func (s *status) printTransfers(t io.Writer) {
	if len(s.Raft.Transfers) == 0 {
		return
	}
	fmt.Fprintln(t, "\nPARTITION\tTAKEN FROM\tSESSIONS\tBYTES\tPASSES\tMERGED")
	for _, tr := range s.Raft.Transfers {
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%d\t%d\n", tr.Partition, tr.From, tr.Sessions, tr.Bytes, tr.Passes, tr.Merged)
	}
}

// printWays shows how the ways to leaders of other regions are.
func (s *status) printWays(t io.Writer) {
	if len(s.Replication.Ways) == 0 {
		return
	}
	fmt.Fprintln(t, "\nLEADER\tROUND TRIP\tLOST TO IT\tLOST FROM IT\tHEARD")
	for _, name := range slices.Sorted(maps.Keys(s.Replication.Ways)) {
		w := s.Replication.Ways[name]
		fmt.Fprintf(t, "%s\t%.1f ms\t%.1f %% of %d\t%.1f %% of %d\t%.1f s ago\n", name, w.RTT, 100*w.LossTo, w.OfTo, 100*w.LossFrom, w.OfFrom, w.Heard)
	}
}

// printTCP shows how connections with other nodes share the network.
func (s *status) printTCP(t io.Writer) {
	if len(s.TCP) == 0 {
		return
	}
	fmt.Fprintln(t, "\nTCP WITH\tCONGESTION CONTROL\tCONNECTIONS\tLOST TO IT")
	for _, w := range s.TCP {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.2f %%\n", w.Region, w.Name, w.Connections, 100*w.Lost)
	}
}

func (s *status) printRegions(t io.Writer) {
	fmt.Fprintln(t, "\nREGION\tSTATE\tFOLLOWED\tCLIENTS CONNECT TO")
	for _, r := range s.Replication.Regions {
		followed := "no"
		switch {
		case r.Name == s.Region:
			followed = "-"
		case slices.Contains(s.Replication.Links, r.Name):
			followed = "yes"
		case !slices.ContainsFunc(s.Raft.Groups, func(g region.GroupStatus) bool { return g.Leads }):
			followed = "by the leader"
		}
		urls := r.URLs
		if len(urls) == 0 {
			urls = []string{r.URL}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Name, r.State, followed, strings.Join(urls, " "))
	}
}

// printMatrix shows how many ops of each origin are where.
func (s *status) printMatrix(t io.Writer) {
	regions := slices.Sorted(maps.Keys(s.Replication.Elsewhere))
	fmt.Fprintf(t, "\nOPS OF\tHERE")
	for _, r := range regions {
		fmt.Fprintf(t, "\t%s", strings.ToUpper(r))
	}
	fmt.Fprintln(t)
	for _, id := range slices.SortedFunc(maps.Keys(s.Origins), func(a, b string) int { return cmp.Compare(s.Origins[a], s.Origins[b]) }) {
		here := uint64(0)
		for _, p := range s.Partitions {
			here += p.Cursors[id]
		}
		fmt.Fprintf(t, "%s\t%d", s.Origins[id], here)
		for _, r := range regions {
			there := uint64(0)
			for _, f := range s.Replication.Elsewhere[r][id] {
				there += f
			}
			if crdt.Origin(s.Origins[id]).Region() == r {
				there = max(there, here)
			}
			fmt.Fprintf(t, "\t%d", there)
			if there < here {
				fmt.Fprintf(t, " (%d to go)", here-there)
			}
		}
		fmt.Fprintln(t)
	}
}
