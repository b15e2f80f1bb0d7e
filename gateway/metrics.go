package gateway

import "github.com/prometheus/client_golang/prometheus"

// metrics count what the gateway does. Label values are constants, codes and types of the protocol.
type metrics struct {
	conns   prometheus.Gauge
	open    prometheus.Gauge
	putOk   prometheus.Observer // these two are one histogram
	putBad  prometheus.Observer
	frames  *prometheus.CounterVec
	refused *prometheus.CounterVec
	closed  *prometheus.CounterVec
	dropped *prometheus.CounterVec
	sampled *prometheus.CounterVec
	resync  *prometheus.CounterVec
	handed  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	put := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "roam_gateway_put_seconds", Help: "Time from a put to its ok or err, without what it waits for other regions.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"outcome"})
	m := &metrics{
		conns: prometheus.NewGauge(prometheus.GaugeOpts{Name: "roam_gateway_connections", Help: "Open connections."}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roam_gateway_open_sessions", Help: "Sessions open on connections, each counted once per connection."}),
		putOk: put.WithLabelValues("ok"), putBad: put.WithLabelValues("refused"),
		frames:  counter("roam_gateway_frames_total", "Frames from clients, by type.", "type"),
		refused: counter("roam_gateway_refused_total", "Connections and frames refused, by reason.", "reason"),
		closed:  counter("roam_gateway_closed_total", "Connections closed by the server, by close code.", "code"),
		dropped: counter("roam_gateway_dropped_total", "What was not delivered, by reason.", "reason"),
		sampled: counter("roam_gateway_traced_puts_total", "Puts whose journey is watched, or was to be, by why.", "reason"),
		resync: counter("roam_gateway_resync_total",
			"Tokens whose clients were shown the session anew, by reason: closed (they named what is nowhere, since its origin is), nowhere (what no region holds), wide (they could not say what was delivered).", "reason"),
		handed: counter("roam_gateway_handed_total",
			"Clients of an edge whose node with data ended, by outcome: moved (another one serves them, and they noticed nothing), failed (they had to come back).", "outcome"),
	}
	reg.MustRegister(m.conns, m.open, put, m.frames, m.refused, m.closed, m.dropped, m.sampled, m.resync, m.handed)
	return m
}
