package app

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// security is how a node's traffic is protected, as /v1/status shows it.
type security struct {
	PeerTLS      bool          `json:"peer_tls"`   // between nodes
	ClientTLS    bool          `json:"client_tls"` // by this node, not by a proxy before it
	Keys         []string      `json:"keys"`       // of --secret-file, by id; the first is in use
	Certificates []certificate `json:"certificates"`
}

// certificate is one that the node uses.
type certificate struct {
	What  string    `json:"what"` // "node", "ca" (the one that signed it), "client"
	Since time.Time `json:"-"`
	Until time.Time `json:"until"`
}

// soon says that it is time for another one.
func (c certificate) soon(now time.Time) bool {
	return c.Until.Sub(now) < min(warnBefore, c.Until.Sub(c.Since)/3)
}

func (s *secrets) certificates() (all []certificate) {
	if s.peers != nil {
		node, ca := s.peers.Valid()
		all = append(all, certificate{"node", node.From, node.Until}, certificate{"ca", ca.From, ca.Until})
	}
	if s.clients != nil {
		own := s.clients.Valid()
		all = append(all, certificate{"client", own.From, own.Until})
	}
	return all
}

// status may be asked for by anybody at any time.
func (s *secrets) status() security {
	return security{PeerTLS: s.peers != nil, ClientTLS: s.clients != nil, Keys: s.ring.Load().ids(), Certificates: s.certificates()}
}

func (s *security) print(w io.Writer, now time.Time) {
	if !s.PeerTLS {
		fmt.Fprint(w, "Between nodes: in the clear.")
	} else {
		fmt.Fprint(w, "Between nodes: TLS.")
	}
	if len(s.Keys) > 0 {
		fmt.Fprintf(w, " Keys of the ring: %s (in use)", s.Keys[0])
		if rest := s.Keys[1:]; len(rest) > 0 {
			fmt.Fprintf(w, ", %s (accepted)", strings.Join(rest, ", "))
		}
		fmt.Fprint(w, ".")
	}
	fmt.Fprintln(w)
	for _, c := range s.Certificates {
		fmt.Fprintf(w, "Certificate %q is valid until %s", c.What, c.Until.UTC().Format("2006-01-02 15:04 UTC"))
		if left := c.Until.Sub(now); left <= 0 {
			fmt.Fprint(w, ": IT HAS ENDED")
		} else {
			fmt.Fprintf(w, ", %d days", int(left.Hours()/24))
		}
		fmt.Fprintln(w, ".")
	}
}

// ends shows when certificates end.
type ends struct{ s *secrets }

var endsDesc = prometheus.NewDesc("roam_tls_ends_timestamp_seconds", "When a certificate ends, in Unix time: the node's, its CA's, that for clients.",
	[]string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (ends) Describe(to chan<- *prometheus.Desc) { to <- endsDesc }

// Collect implements prometheus.Collector.
func (e ends) Collect(to chan<- prometheus.Metric) {
	for _, c := range e.s.certificates() {
		to <- prometheus.MustNewConstMetric(endsDesc, prometheus.GaugeValue, float64(c.Until.Unix()), c.What)
	}
}
