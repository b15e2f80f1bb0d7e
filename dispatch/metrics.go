package dispatch

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what dispatch does; their label values are the constants below.
type metrics struct {
	tracked   *prometheus.GaugeVec   // group: sessions with open answers that are watched
	open      *prometheus.GaugeVec   // group: answers to bring
	oldest    *prometheus.GaugeVec   // group: age of the oldest of them
	jobs      *prometheus.CounterVec // reason: why a job was added
	closed    *prometheus.CounterVec // reason: why the leader closed an answer
	taken     *prometheus.CounterVec // reason: how an answer of another region was taken over
	reports   *prometheus.CounterVec // verdict
	malformed prometheus.Counter
	failures  *prometheus.CounterVec // op on Redis that failed
	deferred  *prometheus.CounterVec // reason: what had to wait for room
	rewinds   prometheus.Counter
}

// Why a job was added.
const (
	jobNew     = "new"
	jobGone    = "gone"    // its entry is no longer there
	jobStale   = "stale"   // a worker took it and did not begin
	jobExpired = "expired" // a worker began and fell silent
)

// How an answer of a region that is gone was taken over.
const (
	takenOpen    = "open"    // to be brought here
	takenStopped = "stopped" // its end was asked for
)

// Why something waits although it is due.
const (
	fullTracked = "tracked" // maxTracked sessions are watched
	fullDirty   = "dirty"   // maxDirty sessions changed since the last round
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "roam_dispatch_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "roam_dispatch_" + name, Help: help}, []string{"group"})
	}
	m := &metrics{
		tracked:  gauge("tracked_sessions", "Sessions with open answers that this leader brings, by Raft group."),
		open:     gauge("open_answers", "Answers that this leader brings and that are not closed, by Raft group."),
		oldest:   gauge("oldest_answer_seconds", "Time since the oldest of the open answers was asked for, by Raft group."),
		jobs:     counter("jobs_total", "Jobs added to Redis, by why.", "reason"),
		closed:   counter("closed_total", "Answers that the leader closed itself, by why.", "reason"),
		taken:    counter("taken_over_total", "Answers of regions that are gone that were taken over, by what for.", "reason"),
		reports:  counter("reports_total", "Workers' reports, by verdict.", "verdict"),
		failures: counter("redis_failures_total", "Operations on Redis that failed, by operation.", "op"),
		deferred: counter("deferred_total", "Sessions that had to wait for room, by which.", "reason"),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roam_dispatch_malformed_total", Help: "Result entries that could not be read."}),
		rewinds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roam_dispatch_rewinds_total", Help: "Times that the results stream was found to have started again."}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.tracked, m.open, m.oldest, m.jobs, m.closed, m.taken, m.reports, m.failures, m.deferred, m.malformed, m.rewinds} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// none is for a node that no longer leads a group: others bring its answers.
func (m *metrics) none(group string) {
	for _, g := range []*prometheus.GaugeVec{m.tracked, m.open, m.oldest} {
		g.WithLabelValues(group).Set(0)
	}
}
