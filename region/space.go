package region

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/wire"
)

const (
	// spaceLook is how often the free space is looked at.
	spaceLook = time.Second
	// reserveLeast, one reserveShare-th of the disk and reserveMost make the reserve of who names none.
	reserveLeast = 256 << 20
	reserveShare = 50
	reserveMost  = 5 << 30
)

// DefaultReserve is how many bytes of a disk have to stay free: room for what the store rewrites, and for what is under way.
func DefaultReserve(total uint64) uint64 {
	return min(max(reserveLeast, total/reserveShare), reserveMost)
}

// Space is the room on the disk of --data, in bytes.
type Space struct {
	Free    uint64 `json:"free"`
	Total   uint64 `json:"total"` // 0: the disk does not say
	Reserve uint64 `json:"reserve"`
	Low     bool   `json:"low"` // groups that this node leads take no puts, reports and records
}

// next is what a look finds: low below the reserve, and until a tenth more is free.
func (s Space) next(free, total, reserve uint64) Space {
	least := reserve
	if s.Low {
		least += reserve / 10
	}
	return Space{Free: free, Total: total, Reserve: reserve, Low: free < least}
}

var errFull = fmt.Errorf("the disk of the region's leader is nearly full: %w", wire.ErrUnavailable)

// space watches how much room the disk has.
type space struct {
	look    func() (free, total uint64, err error)
	reserve func(total uint64) uint64
	log     *slog.Logger

	low atomic.Bool

	mu     sync.Mutex // guards what follows
	now    Space
	room   chan struct{} // closed while there is room
	silent bool          // the disk did not say the last time
}

func newSpace(cfg *Config) *space {
	s := &space{reserve: cfg.Reserve, log: cfg.Logger, room: make(chan struct{})}
	if s.reserve == nil {
		s.reserve = DefaultReserve
	}
	fs, dir := cfg.files(), cfg.Dir
	s.look = func() (free, total uint64, err error) {
		u, err := fs.GetDiskUsage(dir)
		return u.AvailBytes, u.TotalBytes, err
	}
	close(s.room)
	return s
}

// run looks until ctx ends.
func (s *space) run(ctx context.Context) error {
	tick := time.NewTicker(spaceLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.update()
		}
	}
}

// update looks once. A disk that does not say how much room it has is taken to have some.
func (s *space) update() {
	free, total, err := s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if !s.silent && !errors.Is(err, vfs.ErrUnsupported) {
			s.log.Warn("the disk of --data does not say how much room it has; puts are taken until it is full", "err", err)
		}
		s.silent = true
		free, total = 0, 0
	} else {
		s.silent = false
	}
	was := s.now.Low
	if s.now = s.now.next(free, total, s.reserve(total)); total == 0 {
		s.now = Space{}
	}
	if s.now.Low == was {
		return
	}
	s.low.Store(s.now.Low)
	args := []any{"free", s.now.Free, "total", s.now.Total, "reserve", s.now.Reserve}
	if s.now.Low {
		s.room = make(chan struct{})
		s.log.Error("the disk of --data is nearly full: groups that this node leads refuse puts until there is room", args...)
		return
	}
	close(s.room)
	s.log.Info("the disk of --data has room again: puts are taken", args...)
}

// Space is how much room the disk had when it was last looked at.
func (r *Region) Space() Space {
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	return r.space.now
}

// await waits until there is room.
func (s *space) await(ctx context.Context) error {
	if !s.low.Load() {
		return nil
	}
	s.mu.Lock()
	room := s.room
	s.mu.Unlock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return errFull
	}
}

// awaitFor waits until there is room, but no longer than that.
func (s *space) awaitFor(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.await(ctx)
}

// full refuses a put if this node would be the one to commit it, and has no room.
func (g *group) full() error {
	if !g.leading.Load() || !g.r.space.low.Load() {
		return nil
	}
	g.r.metrics.refused.WithLabelValues("no_space").Inc()
	s := g.r.Space()
	return fmt.Errorf("%w (%d MiB are free, and %d are kept)", errFull, s.Free>>20, s.Reserve>>20)
}

var (
	freeDesc    = prometheus.NewDesc("roam_region_disk_free_bytes", "Free on the disk of --data, for the process.", nil, nil)
	reserveDesc = prometheus.NewDesc("roam_region_disk_reserve_bytes", "What has to stay free: below it a leader refuses puts.", nil, nil)
	lowDesc     = prometheus.NewDesc("roam_region_disk_low", "1 while groups that this node leads refuse puts for want of room.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*space) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{freeDesc, reserveDesc, lowDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector. A disk that does not say how much room it has gives none.
func (s *space) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	now := s.now
	s.mu.Unlock()
	if now.Total == 0 {
		return
	}
	low := 0.0
	if now.Low {
		low = 1
	}
	to <- prometheus.MustNewConstMetric(freeDesc, prometheus.GaugeValue, float64(now.Free))
	to <- prometheus.MustNewConstMetric(reserveDesc, prometheus.GaugeValue, float64(now.Reserve))
	to <- prometheus.MustNewConstMetric(lowDesc, prometheus.GaugeValue, low)
}
