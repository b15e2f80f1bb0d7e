package region

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	batch   prometheus.Histogram
	ops     prometheus.Histogram
	commit  prometheus.Histogram
	fsync   prometheus.Histogram
	refused *prometheus.CounterVec
	renewed prometheus.Counter
	begun   prometheus.Counter

	discarded prometheus.Counter

	forwarded, forwardErrors, transfers, trims, purges, expiries, floors, closed prometheus.Counter
	transferred                                                                  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roam_region_batch_proposals", Help: "Proposals in one Raft entry.", Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}),
		ops: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roam_region_batch_ops", Help: "Ops and records in one Raft entry.", Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roam_region_commit_seconds", Help: "Time that an entry took to be applied, or committed by the leader, all tries.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roam_region_log_write_seconds", Help: "Time of one durable write to the Raft log.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roam_region_refused_total", Help: "Proposals that were not committed, by reason.",
		}, []string{"reason"}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roam_region_renewed_total", Help: "New incarnations because ops were lost.",
		}),
	}
	m.begun = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "roam_region_begun_total", Help: "New incarnations that this node has begun as it began to lead: the first, or too few nodes could tell that no disk has gone back.",
	})
	m.discarded = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "roam_region_discarded_total", Help: "Starts that found a directory that was not whole, or that the region had gone on without, and joined anew with an empty one.",
	})
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m.forwarded = counter("roam_region_forwarded_total", "Puts that the leader committed for this node.")
	m.forwardErrors = counter("roam_region_forward_errors_total", "Batches that the leader did not take; they are tried again.")
	m.transfers = counter("roam_region_transfers_total", "Whole states taken from another node.")
	m.expiries = counter("roam_region_expiries_total", "Sessions of which this node, as leader, had ids forgotten because --removed-ttl had passed since what they were of was removed.")
	m.purges = counter("roam_region_purges_total", "Sessions that this node, as leader, had removed because nobody had used them for --session-ttl.")
	m.trims = counter("roam_region_trims_total", "Sessions whose oldest entries this node, as leader, had removed.")
	m.floors = counter("roam_region_feed_floors_total", "Times that the oldest records of a feed were dropped.")
	m.closed = counter("roam_region_closed_total", "Origins that were closed, by partition, or whose end has risen: nobody numbers under them any more.")
	m.transferred = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "roam_region_transfer_keys", Help: "Keys that have come of the state that is being taken, or was last.",
	})
	reg.MustRegister(m.batch, m.ops, m.commit, m.fsync, m.refused, m.renewed, m.begun, m.discarded, m.forwarded, m.forwardErrors, m.transfers,
		m.trims, m.purges, m.expiries, m.transferred, m.floors, m.closed)
	return m
}

// raftLog passes the warnings and errors of hashicorp's libraries on, one level lower: elections, and nodes that are away, are nothing to be
// warned of. What ends a node is told by failure.
func raftLog(l *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, DisableTime: true, Output: &lineLog{log: l}})
}

// lineEvery is how often at most a line of theirs is more than debug: while a node is down they say so ten times a second.
const lineEvery = time.Second

type lineLog struct {
	log  *slog.Logger
	said atomic.Int64 // when the last that was more than debug was, in ns since 1970
}

// Write implements io.Writer.
func (l *lineLog) Write(b []byte) (int, error) {
	level, now, last := slog.LevelInfo, time.Now().UnixNano(), l.said.Load()
	if now-last < int64(lineEvery) || !l.said.CompareAndSwap(last, now) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "raft", "line", string(bytes.TrimSpace(b)))
	return len(b), nil
}

// pebbleLog passes Pebble's log on.
type pebbleLog struct {
	log  *slog.Logger
	quit func(error) // does not return
}

func (p pebbleLog) Infof(format string, args ...any) {
	p.log.Debug("pebble", "line", fmt.Sprintf(format, args...))
}
func (p pebbleLog) Errorf(format string, args ...any) {
	p.log.Error("pebble", "line", fmt.Sprintf(format, args...))
}

// Fatalf is called when the store cannot go on, and must not return: nothing that follows could be trusted.
func (p pebbleLog) Fatalf(format string, args ...any) {
	p.quit(fmt.Errorf(format, args...))
}
