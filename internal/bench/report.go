package bench

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run found. Times are in milliseconds.
type Report struct {
	Started     time.Time `json:"started"`
	Go          string    `json:"go"`
	Cores       int       `json:"cores"`
	URLs        []string  `json:"urls"`
	Connections int       `json:"connections"`
	Devices     int       `json:"devices"` // of a session
	Payload     int       `json:"payload"`
	Mix         string    `json:"mix"`
	Arrivals    string    `json:"arrivals"`
	Seed        uint64    `json:"seed"`
	Warmup      float64   `json:"warmup_s"`
	Duration    float64   `json:"duration_s"` // measured, warm-up not included

	Offered    float64 `json:"offered_per_s"` // due in the measured time
	Sent       int64   `json:"sent"`          // warm-up included, as in all that follow
	Acked      int64   `json:"acked"`
	Achieved   float64 `json:"achieved_per_s"` // of these, acknowledged before it was over
	Delivered  int64   `json:"delivered"`      // to other devices
	Retried    int64   `json:"retried"`
	Reconnects int64   `json:"reconnects"`
	LateShare  float64 `json:"late_share"` // of sends: more than 10 ms after they were due

	Lost       int64            `json:"lost"`       // acknowledged, and not there
	Doubled    int64            `json:"doubled"`    // shown twice, or there twice
	Unseen     int64            `json:"unseen"`     // acknowledged, and not shown to another device in time
	Disordered int64            `json:"disordered"` // shown before an earlier one of the same sender
	Unknown    int64            `json:"unknown"`    // shown, and never sent
	Unread     int64            `json:"unread"`     // sessions that could not be read back
	Unanswered int64            `json:"unanswered"` // ops that got neither ok nor err, and questions whose answer did not end
	Answers    map[string]int64 `json:"answers"`    // by state
	Errors     map[string]int64 `json:"errors"`     // by code
	Notes      []string         `json:"notes"`      // the first errors

	Latencies map[string]Latency `json:"latencies_ms"` // from when an op was due
	Pause     Latency            `json:"pause_ms"`     // the longest wait for an ok, by connection
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func (b *run) report(unread int64, loaded time.Duration, end time.Time) *Report {
	c, arrivals := b.count, "poisson"
	if b.cfg.Constant {
		arrivals = "constant"
	}
	r := &Report{
		Started: b.start, Go: runtime.Version(), Cores: runtime.NumCPU(), URLs: b.cfg.URLs, Connections: b.cfg.Connections,
		Devices: b.cfg.Devices, Payload: b.cfg.Payload, Mix: b.cfg.Mix.String(), Arrivals: arrivals, Seed: b.cfg.Seed,
		Warmup: b.cfg.Warmup.Seconds(), Duration: max(0, loaded-b.cfg.Warmup).Seconds(),
		Sent: c.sent.Load(), Acked: c.acked.Load(), Delivered: c.delivered.Load(), Retried: c.retried.Load(),
		Reconnects: c.reconnects.Load(), Lost: c.lost.Load(), Doubled: c.doubled.Load(), Unseen: c.unseen.Load(),
		Disordered: c.disordered.Load(), Unknown: c.unknown.Load(), Unread: unread, Answers: c.answers, Errors: c.errors,
		Notes: b.notes, Latencies: map[string]Latency{},
	}
	if r.Duration > 0 { // what is acknowledged after the load was not kept up with
		r.Offered, r.Achieved = float64(c.offered.Load())/r.Duration, float64(c.inTime.Load())/r.Duration
	}
	for what, h := range c.latencies {
		ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
		r.Latencies[what] = Latency{h.TotalCount(), ms(50), ms(90), ms(99), ms(99.9), float64(h.Max()) / 1000}
	}
	if n := c.offered.Load(); n > 0 {
		r.LateShare = float64(c.late.Load()) / float64(n)
	}
	var pauses []time.Duration
	for _, s := range b.sessions {
		pauses = append(pauses, s.ledger.pauses(end)...)
		for d := range s.devices {
			r.Unanswered += int64(len(s.ledger.unanswered(d)) + s.ledger.unended(d))
		}
	}
	r.Pause = exact(pauses)
	return r
}

// exact is the distribution of a few values.
func exact(v []time.Duration) Latency {
	if len(v) == 0 {
		return Latency{}
	}
	slices.Sort(v)
	at := func(q float64) float64 { return float64(v[int(q*float64(len(v)-1))].Microseconds()) / 1000 }
	return Latency{int64(len(v)), at(0.5), at(0.9), at(0.99), at(0.999), at(1)}
}

// String is what ParseMix reads.
func (m Mix) String() string {
	var parts []string
	for k, share := range m {
		if share > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", kindNames[k], share))
		}
	}
	return strings.Join(parts, ",")
}

// Wrong says what must not be, "" if all is well.
func (r *Report) Wrong() string {
	var wrong []string
	for _, w := range []struct {
		n    int64
		what string
	}{
		{r.Lost, "acknowledged messages lost"}, {r.Doubled, "messages doubled"}, {r.Unseen, "deliveries missing"},
		{r.Disordered, "messages out of their sender's order"}, {r.Unknown, "messages that nobody sent"},
		{r.Unread, "sessions that could not be read back"}, {r.Unanswered, "ops without an answer"},
	} {
		if w.n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", w.n, w.what))
		}
	}
	return strings.Join(wrong, ", ")
}

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%d connections, %d to a session, %d bytes, %s, %s arrivals, %.0f s; %d cores, %s\n",
		r.Connections, r.Devices, r.Payload, r.Mix, r.Arrivals, r.Duration, r.Cores, r.Go)
	fmt.Fprintf(w, "offered %.0f/s, achieved %.0f/s: %d sent, %d ok, %d deliveries, %d sent again, %d reconnects\n",
		r.Offered, r.Achieved, r.Sent, r.Acked, r.Delivered, r.Retried, r.Reconnects)
	fmt.Fprintf(w, "lost %d, doubled %d, not delivered %d, out of order %d, without an answer %d\n",
		r.Lost, r.Doubled, r.Unseen, r.Disordered, r.Unanswered)
	for _, list := range []struct {
		what string
		m    map[string]int64
	}{{"errors", r.Errors}, {"answers", r.Answers}} {
		for _, k := range slices.Sorted(maps.Keys(list.m)) {
			fmt.Fprintf(w, "%s %s: %d\n", list.what, k, list.m[k])
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nms from when it was due\tcount\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, what := range slices.Sorted(maps.Keys(r.Latencies)) {
		r.Latencies[what].print(t, what)
	}
	r.Pause.print(t, "longest pause of a connection")
	if err := t.Flush(); err != nil {
		return err
	}
	if r.LateShare > 0.01 {
		fmt.Fprintf(w, "\n%.1f %% of the sends were more than 10 ms late: the generator had too little of the machine, and part of the latency is its own\n",
			100*r.LateShare)
	}
	return nil
}

func (l Latency) print(w io.Writer, what string) {
	fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", what, l.Count, l.P50, l.P90, l.P99, l.P999, l.Max)
}
