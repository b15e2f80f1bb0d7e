package app

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/internal/congestion"
)

// congestion is what nodes reach each other by, on this machine's network.
func (o *ServeOptions) congestion(region func(addr string) string, reg *prometheus.Registry, log *slog.Logger) (*congestion.Control, error) {
	c, err := congestion.New(congestion.Config{Name: o.PeerCongestion, Region: region, Logger: log})
	if err != nil {
		return nil, err
	}
	return c, reg.Register(c)
}
