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
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/roamsync/roam/replication"
)

// RegionListOptions is what `roam region list` is told.
type RegionListOptions struct {
	Admin   string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node that holds data."`
	Timeout time.Duration `default:"5s" help:"How long to wait for the answer."`
	JSON    bool          `name:"json" help:"Print JSON."`
}

// RegionEvictOptions is what `roam region evict` is told.
type RegionEvictOptions struct {
	Admin  string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of the node that leads the first group of a region that lives."`
	Region string        `arg:"" help:"The region that is gone and does not come back with what it had."`
	Yes    bool          `help:"Do it. Without, the command says what it would do."`
	Force  bool          `help:"Do it although other regions cannot be reached. Nothing is closed before they are, or are evicted too."`
	Wait   time.Duration `default:"1m" help:"How long to wait until what the region numbered is closed. It goes on after that as well."`
}

const (
	regionsPath = "/v1/regions"
	evictPath   = "/v1/regions/evict"
	evictLook   = 500 * time.Millisecond
)

// regionsReport is what a node says of other regions.
type regionsReport struct {
	Region  string               `json:"region"`
	Regions []replication.Absent `json:"regions"`
}

// evicting answers who asks for other regions, and who gives one up.
func (n *node) evicting(mux *http.ServeMux) {
	mux.HandleFunc("GET "+regionsPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(regionsReport{n.opts.Region, n.links.Absents()}); err != nil {
			n.log.Debug("regions not sent", "err", err)
		}
	})
	mux.HandleFunc("POST "+evictPath, func(w http.ResponseWriter, r *http.Request) {
		region := r.FormValue("region")
		bound, err := n.links.Bound(region, r.FormValue("force") == "true")
		if err == nil {
			err = n.region.GiveUp(r.Context(), region, bound)
		}
		if err == nil {
			n.log.Warn("a region was evicted by an operator", "region", region, "bound", fmt.Sprintf("%016x", bound))
		}
		answer(w, fmt.Sprintf("region %s is evicted, with all that it numbered up to incarnation %016x", region, bound), err)
	})
}

// RegionList prints the other regions that a node knows.
func RegionList(ctx context.Context, o RegionListOptions, w io.Writer) error {
	if o.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: above 0", o.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	report, err := askRegions(ctx, o.Admin)
	if err != nil {
		return err
	}
	if o.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(report)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "REGION\tSTATE\tNODES ALIVE\tNOT CLOSED\n%s\there\t-\t-\n", report.Region)
	for _, a := range report.Regions {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Region, stateOf(a), cmp.Or(strings.Join(a.Alive, " "), "none"), openOf(a))
	}
	return t.Flush()
}

func stateOf(a replication.Absent) string {
	switch {
	case a.Evicted:
		return "evicted"
	case a.Back != "" && a.Heard:
		return "back after an eviction"
	case a.Heard:
		return "heard"
	}
	return "not heard"
}

// openOf says what is not closed yet of a region, and for whom that waits.
func openOf(a replication.Absent) string {
	if a.Open.Partitions == 0 {
		return "-"
	}
	var why []string
	for _, region := range slices.Sorted(maps.Keys(a.Open.Waits)) {
		why = append(why, region+": "+a.Open.Waits[region])
	}
	return fmt.Sprintf("%d partitions (%s)", a.Open.Partitions, cmp.Or(strings.Join(why, "; "), "under way"))
}

// ofRegion says what is not closed yet of the region at an index of a report; below 0: it is not in that.
func ofRegion(r *regionsReport, i int) string {
	if i < 0 {
		return "the node does not name it"
	}
	return openOf(r.Regions[i])
}

func askRegions(ctx context.Context, admin string) (*regionsReport, error) {
	report := &regionsReport{}
	return report, askJSON(ctx, admin, http.MethodGet, regionsPath, content{}, maxStatus, report)
}

// ErrNotClosed is for an eviction that is noted, and not through.
var ErrNotClosed = errors.New("not closed yet")

// RegionEvict has a region given up, and waits until what it numbered is closed everywhere.
func RegionEvict(ctx context.Context, o RegionEvictOptions, w io.Writer) error {
	if o.Wait < 0 {
		return fmt.Errorf("--wait %s: 0 or above", o.Wait)
	}
	if !o.Yes {
		return fmt.Errorf("nothing was done. Evicting %s means: no other region waits for it any more, neither to call a message safe nor to drop old records; what it numbered "+
			"and no other region holds is given up (clients put again what was not safe); and it comes back with empty disks only. If that is so, say --yes", o.Region)
	}
	const answerLimit = 30 * time.Second
	form := url.Values{"region": {o.Region}, "force": {strconv.FormatBool(o.Force)}}
	if err := order(ctx, o.Admin, answerLimit, evictPath, form, w); err != nil {
		return err
	}
	return awaitClosed(ctx, o, w)
}

func awaitClosed(ctx context.Context, o RegionEvictOptions, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, max(o.Wait, evictLook))
	defer cancel()
	said := ""
	for {
		report, err := askRegions(ctx, o.Admin)
		if err == nil {
			i := slices.IndexFunc(report.Regions, func(a replication.Absent) bool { return a.Region == o.Region })
			if i >= 0 && report.Regions[i].Open.Partitions == 0 {
				_, err := fmt.Fprintln(w, "all that it numbered is closed")
				return err
			}
			if now := ofRegion(report, i); now != said {
				said = now
				fmt.Fprintln(w, "to be closed:", said)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is evicted, and closing goes on by itself (see roam region list): %s", ErrNotClosed, o.Region, cmp.Or(said, "the node did not say more"))
		case <-time.After(evictLook):
		}
	}
}
