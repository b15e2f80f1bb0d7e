package wan

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what was found.
type Report struct {
	Started time.Time
	Config  Config
	Rows    []Row
	Lags    []Lag
}

// Row is a line of the table.
type Row struct {
	Scenario, Measure, Value string
	Goal                     string // empty: there is none
	Met                      bool
	Fatal                    bool // a promise was broken, whatever the machine
}

// Lag is how late messages reached other regions, over a scenario.
type Lag struct {
	Scenario *Scenario
	World    []string // names of regions
	Samples  []sample
	Acts     []string // in words
}

// Wrong says which promises were broken; the empty string is none.
func (r *Report) Wrong() string {
	var wrong []string
	for _, row := range r.Rows {
		if row.Fatal && !row.Met {
			wrong = append(wrong, row.Scenario+": "+row.Value)
		}
	}
	return strings.Join(wrong, "; ")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

func (r *Report) add(sc *Scenario, measure, format string, args ...any) {
	r.Rows = append(r.Rows, Row{Scenario: sc.Name, Measure: measure, Value: fmt.Sprintf(format, args...)})
}

// atMost adds a time with what it should be.
func (r *Report) atMost(sc *Scenario, measure string, took time.Duration, goal Goal) {
	limit := time.Duration(goal.Times*float64(r.Config.Delay)) + goal.Plus
	words := "≤ " + goal.Plus.String()
	if goal.Times > 0 {
		words = fmt.Sprintf("≤ %gD + %s = %s", goal.Times, goal.Plus, limit)
	}
	r.Rows = append(r.Rows, Row{Scenario: sc.Name, Measure: measure, Value: ms(took), Goal: words, Met: took <= limit && took > 0})
}

func (r *Report) goal(sc *Scenario, measure, value, goal string, met bool) {
	r.Rows = append(r.Rows, Row{Scenario: sc.Name, Measure: measure, Value: value, Goal: goal, Met: met})
}

// cpu adds how much of the machine a load has taken.
func (r *Report) cpu(sc *Scenario, from, to usage) {
	if took := to.at.Sub(from.at).Seconds(); took > 0 && to.nodes > from.nodes {
		r.add(sc, "processors used", "%.2f by the regions, %.2f by clients and WAN, of %d", (to.nodes-from.nodes).Seconds()/took,
			(to.self-from.self).Seconds()/took, runtime.NumCPU())
	}
}

// oneLine is for what errors say.
func oneLine(s string) string {
	const most = 240
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), most)]
}

// fail adds that a scenario could not be played, or that a promise was broken.
func (r *Report) fail(sc *Scenario, why string) {
	r.Rows = append(r.Rows, Row{Scenario: sc.Name, Measure: "checks", Value: oneLine(why), Goal: "all is well", Fatal: true})
}

// timed adds a distribution, and holds it against what it should be.
func (r *Report) timed(sc *Scenario, what string, s spread) {
	for _, q := range []struct {
		name string
		took time.Duration
	}{{"p50", s.p50}, {"p99", s.p99}} {
		measure := what + " " + q.name
		i := slices.IndexFunc(sc.Goals, func(g Goal) bool { return g.What == measure })
		if i >= 0 {
			r.atMost(sc, "put → "+measure, q.took, sc.Goals[i])
		} else {
			r.add(sc, "put → "+measure, "%s", ms(q.took))
		}
	}
}

// opOverhead is what an op of a message has on disk and in the feed beyond its texts: docs/benchmarks.md. The wire adds what the
// goal grants: 15 % and 24 bytes.
const (
	opOverhead = 27
	oidBytes   = 26
)

// load adds what a load has come to.
func (r *Report) load(sc *Scenario, c *crowd, since time.Duration, wire map[Pair]Count, settled time.Duration, f *Findings, memory bool) {
	r.timed(sc, "ok", spreadOf(c.acks(since)))
	all := c.deliveries(since)
	delivered := spreadOf(all)
	r.timed(sc, "delivered", delivered)
	r.add(sc, "longest until delivered", "%s", ms(delivered.max))
	if len(sc.Acts) > 0 {
		r.add(sc, "level after the load", "%.1f s", settled.Seconds())
	}
	r.wirePerOp(sc, c, wire, f.Puts, memory)
	if c.late*50 > f.Puts {
		r.add(sc, "sent late by the rig", "%.1f %%: it had too little of the machine", 100*float64(c.late)/float64(f.Puts))
	}
	checks := Row{Scenario: sc.Name, Measure: "checks", Goal: "all once, in order, in every region", Fatal: true,
		Value: fmt.Sprintf("%d put, %d acknowledged", f.Puts, f.Acked), Met: f.Wrong() == "" && f.Puts > 0}
	if w := f.Wrong(); w != "" {
		checks.Value += ": " + oneLine(w)
	}
	r.Rows = append(r.Rows, checks)
	lag := Lag{Scenario: sc, Samples: all}
	for i := range sc.Acts {
		lag.Acts = append(lag.Acts, c.w.tell(&sc.Acts[i], sc.Base))
	}
	r.Lags = append(r.Lags, lag)
}

// wirePerOp adds what an op has cost on the way to each other region, acknowledgements of TCP and all else included.
func (r *Report) wirePerOp(sc *Scenario, c *crowd, wire map[Pair]Count, puts int, memory bool) {
	var bytes, packets, late, lost uint64
	for _, n := range wire {
		bytes, packets, late, lost = bytes+n.Bytes, packets+n.Packets, late+n.Late, lost+n.Full
	}
	if late*100 > packets {
		r.add(sc, "packets late by the rig", "%.1f %%, by more than %s: it had too little of the machine", 100*float64(late)/float64(packets), lateBy)
	}
	if lost > 0 {
		r.add(sc, "packets that found no room", "%d", lost)
	}
	if puts == 0 {
		return
	}
	t := c.talks[len(c.talks)-1]
	encoded := r.Config.Payload + oidBytes + len(t.session) + len(t.user) + len("at-"+c.w.regions[0].name) + opOverhead
	per := float64(bytes) / float64(puts*(len(c.w.regions)-1))
	value := fmt.Sprintf("%.0f bytes", per)
	if memory {
		value += ", without IP and TCP"
	}
	if len(sc.Goals) == 0 || sc.Base.Loss > 0 {
		r.add(sc, "WAN an op and region", "%s", value)
		return
	}
	goal := 1.15*float64(encoded) + 24
	r.goal(sc, "WAN an op and region", value, fmt.Sprintf("≤ 1.15 × %d + 24 = %.0f", encoded, goal), per <= goal)
}

// idlePerPair is what a pair of regions may say to each other when there is nothing to say, in bytes a second.
const idlePerPair = 1000

func (r *Report) idle(sc *Scenario, wire map[Pair]Count, took time.Duration) {
	worst, pair, packets, gossip := 0.0, Pair{}, 0.0, 0.0
	for p, n := range wire {
		back := wire[Pair{p.To, p.From}]
		if rate := float64(n.Bytes+back.Bytes) / took.Seconds(); rate > worst {
			worst, pair = rate, p
			packets, gossip = float64(n.Packets+back.Packets)/took.Seconds(), float64(n.Gossip+back.Gossip)/took.Seconds()
		}
	}
	r.goal(sc, "WAN of a pair, both ways", fmt.Sprintf("%.0f bytes/s in %.0f packets/s, %.0f of them gossip (%s ↔ %s)", worst, packets, gossip, pair.From, pair.To),
		fmt.Sprintf("≤ %d bytes/s", idlePerPair), worst > 0 && worst <= idlePerPair) // they are never silent
}

// Print writes the table.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tMEASURE\tVALUE\tGOAL\tMET")
	for i, row := range r.Rows {
		name, met := row.Scenario, ""
		if i > 0 && r.Rows[i-1].Scenario == name {
			name = ""
		}
		if row.Goal != "" {
			met = "no"
			if row.Met {
				met = "yes"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, row.Measure, row.Value, row.Goal, met)
	}
	return t.Flush()
}

// Markdown writes the table as a document has it.
func (r *Report) Markdown(w io.Writer) {
	fmt.Fprintln(w, "| scenario | measure | value | goal | met |\n|---|---|---|---|---|")
	for i, row := range r.Rows {
		name, met := row.Scenario, ""
		if i > 0 && r.Rows[i-1].Scenario == name {
			name = ""
		}
		if row.Goal != "" {
			met = map[bool]string{true: "yes", false: "**no**"}[row.Met]
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", name, row.Measure, row.Value, row.Goal, met)
	}
}
