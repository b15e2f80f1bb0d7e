package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/clock"
	"github.com/roamsync/roam/internal/congestion"
	"github.com/roamsync/roam/region"
	"github.com/roamsync/roam/replication"
)

// desk is what answers operators, on any node. Its address is never public.
type desk struct {
	reg     *prometheus.Registry
	serving atomic.Bool   // clients are taken
	why     func() string // why they are not, if more is known than that; nil: never
}

func (d *desk) handler(status http.HandlerFunc) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", d.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/status", status)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func (d *desk) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !d.serving.Load() {
		why := ""
		if d.why != nil {
			why = d.why()
		}
		http.Error(w, "not ready: "+cmp.Or(why, "it has not found the region's other nodes yet, or is going away"), http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ready\n"))
}

// status is what /v1/status answers.
type status struct {
	Region      string             `json:"region"`
	Node        string             `json:"node"`
	Ready       bool               `json:"ready"`
	Raft        region.Status      `json:"raft"`
	Origin      crdt.Origin        `json:"origin"`
	Origins     map[string]string  `json:"origins"` // id in hex -> name
	Peers       []string           `json:"peers"`   // other regions ever met
	Partitions  []partitionStatus  `json:"partitions"`
	Replication replication.Status `json:"replication"`
	Security    security           `json:"security"`
	Clock       clock.Status       `json:"clock"`
	TCP         []congestion.Way   `json:"tcp"` // connections between nodes
}

func (n *node) status(ctx context.Context) status {
	s := status{
		Region: n.opts.Region, Node: n.opts.Node, Ready: n.serving.Load(), Raft: n.region.Status(ctx), Origin: n.region.Self(0),
		Origins: map[string]string{}, Peers: n.region.Peers(), Replication: n.links.Status(), Security: n.secrets.status(),
		Clock: n.clock.Status(), TCP: n.peers.Ways(),
	}
	for _, o := range n.region.Origins() {
		s.Origins[originHex(o.ID())] = string(o)
	}
	for p := range uint8(crdt.Partitions) {
		ps := partitionStatus{Cursors: map[string]uint64{}}
		for id, f := range n.region.Cursors(p) {
			ps.Cursors[originHex(id)] = f
		}
		digest, err := n.region.Digest(p)
		if err != nil {
			n.log.Error("digest", "partition", p, "err", err)
		}
		ps.Digest = fmt.Sprintf("%016x", digest)
		s.Partitions = append(s.Partitions, ps)
	}
	return s
}

func originHex(id crdt.OriginID) string { return fmt.Sprintf("%08x", uint32(id)) }

type partitionStatus struct {
	Cursors map[string]uint64 `json:"cursors"` // origin id in hex -> f
	Digest  string            `json:"digest"`  // of the state: equal cursors mean equal digests
}

func (n *node) serveStatus(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(n.status(r.Context())); err != nil {
		n.log.Debug("status not sent", "err", err)
	}
}
