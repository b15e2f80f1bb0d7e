package region

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/machine"
	"github.com/roamsync/roam/wire/peerpb"
)

// Config says what region a node is of and where it keeps its copy.
type Config struct {
	Region string
	Node   string // unique in the region
	Dir    string // made if absent
	Disk   *Disk  // where Dir is, for a region of one group; nil: on the machine's disk
	// Stream makes what carries Raft between nodes, given this node's raft id; its addresses are raft ids. Nil: in
	// memory, for a node alone.
	Stream func(id string) raft.StreamLayer
	// Cluster is the other nodes of the region. Nil: there are none.
	Cluster Cluster
	// Expect is how many nodes found the region, and how many of them vote until another size is committed. 0: 1.
	Expect int
	// Join is set for a node that never founds a region: it is taken into the one that there is. Expect does not count then.
	Join bool
	// Groups is how many Raft groups share the region's partitions: 1, 2, 4, 8 or 16, fixed when the region is founded. A
	// node with another number is refused. 0: as many as the region has, and one if this node founds it.
	Groups  int
	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps them private
	Now     func() time.Time      // nil is time.Now
	Tracer  trace.Tracer          // nil: no spans
	// StallLimit is how long the disk may take for one write to the log before the process gives up. 0: 2 s.
	StallLimit time.Duration
	// CommitDeadline is how long a proposal is tried. 0: 10 s.
	CommitDeadline time.Duration
	// CacheBytes bounds Pebble's block cache. 0: 256 MiB.
	CacheBytes int64
	// SessionBytes bounds the memory for what is remembered of sessions that were not changed lately, all groups together. 0: 96 MiB.
	SessionBytes int
	// MemtableBytes is what may be unflushed, and so replayed at a start. 0: 64 MiB.
	MemtableBytes uint64
	// SnapshotEntries is after how many entries a group's log is cut, but for the last TrailingEntries, which a node that was
	// away can still be brought up to date from. 0: 8192 and 10240.
	SnapshotEntries, TrailingEntries uint64
	// SnapshotBytes and TrailingBytes bound the same in bytes. 0: 128 MiB and 256 MiB.
	SnapshotBytes, TrailingBytes uint64
	// SessionEntries is about how many entries of a session's log stay: what is older is removed, in every region, once there
	// are a quarter more. 0: all.
	SessionEntries int
	// SessionTTL is for how long a session may be unused before Purge removes it, in every region. 0: for ever.
	SessionTTL time.Duration
	// RemovedTTL is for how long what was removed is known by its id before Expire has it forgotten, in every region. 0: for ever.
	RemovedTTL time.Duration
	// FeedOps is how many records of each feed are kept for other regions that have not acknowledged them; one that was away for
	// longer takes whole partitions instead. 0: all.
	FeedOps uint64

	// Reserve is how much of a disk of so many bytes has to stay free: below that, groups that this node leads take no puts. nil:
	// DefaultReserve.
	Reserve func(total uint64) uint64

	leave time.Duration // leaveLimit; tests have less time
	// level is the newest format of an entry that the node applies, levelQuiet how long all nodes of a region must have been able
	// to apply a level before it is committed, and lostAfter the constant. For tests. 0: machine.FeatureLevel, 1 m, 30 s.
	level                 uint32
	levelQuiet, lostAfter time.Duration
	engine                string // of the log, for measurements: engineWAL or enginePebble. "": what fits the number of groups
}

func (c *Config) check() error {
	if !crdt.ValidRegion(c.Region) || !crdt.ValidRegion(c.Node) {
		return fmt.Errorf("region %q, node %q: 1 to 32 of a-z, 0-9 and -", c.Region, c.Node)
	}
	if c.Dir == "" {
		return errors.New("a directory is needed")
	}
	def(&c.StallLimit, 2*time.Second)
	def(&c.CommitDeadline, 10*time.Second)
	def(&c.CacheBytes, 256<<20)
	def(&c.SessionBytes, 96<<20)
	def(&c.MemtableBytes, 64<<20)
	def(&c.SnapshotEntries, 8192)
	def(&c.TrailingEntries, 10240)
	def(&c.SnapshotBytes, 128<<20)
	def(&c.TrailingBytes, 256<<20)
	def(&c.level, machine.FeatureLevel)
	def(&c.levelQuiet, levelQuiet)
	def(&c.lostAfter, lostAfter)
	def(&c.Expect, 1)
	if c.Join {
		c.Expect = 0
	}
	def(&c.leave, leaveLimit)
	if !c.Join && c.Expect != 1 && c.Expect != 3 && c.Expect != 5 {
		return fmt.Errorf("%d nodes cannot found a region: 1, 3 or 5 do", c.Expect)
	}
	if !validGroups(c.Groups) && c.Groups != 0 {
		return fmt.Errorf("%d Raft groups: 1, 2, 4, 8 or 16 share the partitions of a region", c.Groups)
	}
	if c.Disk != nil && c.Groups > 1 {
		return errors.New("a Disk is for a region of one group")
	}
	if c.Expect != 1 && (c.Cluster == nil || c.Stream == nil) {
		return errors.New("a region of several nodes needs a Cluster and a Stream")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Region is this node's part in its region. See New.
type Region struct {
	peerpb.UnimplementedNodeServer
	cfg        Config
	id         string // raft id: the node's name, and what was drawn for its directory
	entry      string // drawn for this process: what marks the puts that entered here
	recovering bool   // Recover works on it: what it left half done before does not stop it
	reading    bool   // it is read, and never run: see OpenFound
	proven     bool   // the process before ended in order, just now and in this directory, and was proven in all groups; or there was none
	fresh      bool   // its directory is new: it has acknowledged nothing that it could have forgotten
	ordered    bool   // this one is ending in order
	several    bool   // when it was opened, or founded: other nodes were in its groups, or are to be
	founds     bool   // it may found a region with others: it never was in one, and was not told to join
	count      int    // of groups; 0: not known yet
	db         *pebble.DB
	logs       logs
	lanes      *lanes   // of the groups' connections; nil: there is one group, or no network
	held       []*group // opened, or on the way; owned by New, then by Run
	groups     atomic.Pointer[[]*group]
	known      chan struct{} // closed when groups is there
	watch      *watchers
	ready      chan struct{}
	outside    atomic.Pointer[string] // why the node is not part of the region yet; nil: it is, or does not know
	left       chan struct{}          // closed when the node is no longer part of the region
	draining   atomic.Bool            // the node is about to end: it does not want to lead
	asking     asking
	stopping   context.Context // ends what Raft waits for when the node stops
	stop       context.CancelFunc
	space      *space
	failure    *failure
	way        yielding      // of the state
	ended      chan struct{} // closed when Run's work has ended; nil: it never ran
	marking    sync.Mutex    // of damage
	metrics    *metrics
}

// New opens a node's copy and starts nothing that outlives a failure. Whoever has a Region calls Run, or not, and in the end
// Close.
func New(cfg Config) (*Region, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := prepare(cfg)
	if err := r.guarded(r.open); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.Dir, err), r.Close())
	}
	r.space.update()
	cfg.Metrics.MustRegister(gauges{r}, r.space)
	return r, nil
}

// prepare makes a region of which nothing is open.
func prepare(cfg Config) *Region {
	r := &Region{
		cfg: cfg, watch: newWatchers(), ready: make(chan struct{}), known: make(chan struct{}), left: make(chan struct{}), failure: newFailure(),
		metrics: newMetrics(cfg.Metrics), entry: rand.Text()[:entryLength],
	}
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.space = newSpace(&r.cfg)
	return r
}

func (r *Region) open() error {
	if err := r.openState(); err != nil {
		return err
	}
	if r.count == 0 && r.several {
		return nil // Run asks the others
	}
	if r.count == 0 {
		if err := r.decide(max(r.cfg.Groups, 1)); err != nil {
			return err
		}
	}
	err := r.openGroups()
	if errors.Is(err, errTorn) && r.several {
		return r.discard(err)
	}
	return err
}

// discard empties the directory of a node whose transfer of state was cut short. It joins again as a new one, which
// has not voted and has acknowledged nothing.
func (r *Region) discard(why error) error {
	r.cfg.Logger.Warn("what is in the directory is not whole: the node starts empty and gets the state from the others", "why", why)
	if err := r.release(); err != nil {
		return err
	}
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.asking.ended = false
	count := r.count
	r.held, r.logs, r.lanes, r.db = nil, nil, nil, nil
	r.metrics.discarded.Inc()
	if err := r.empty(errors.Is(why, errAstray)); err != nil {
		return err
	}
	if d := r.cfg.Disk; d != nil {
		if err := d.Forget(); err != nil {
			return err
		}
	}
	if err := r.openState(); err != nil {
		return err
	}
	return errors.Join(r.note(nodeSeveral, 1), r.decide(count), r.openGroups())
}

func (r *Region) openState() (err error) {
	if err := errors.Join(r.checkRestored(), r.putAside()); err != nil {
		return err
	}
	if err := errors.Join(r.makeDirs(), r.checkDamage()); err != nil {
		return err
	}
	opts := r.stateOptions()
	defer opts.Cache.Unref()
	if r.db, err = pebble.Open(filepath.Join(r.cfg.Dir, "state"), opts); err != nil {
		return fmt.Errorf("state (is another process using it?): %w", r.opened("the state", err))
	}
	if err := errors.Join(r.checkIdentity(), r.checkPending(), r.checkLeft(), r.checkSeveral(), r.checkGroups()); err != nil {
		return err // the mark of the process before is for one that may begin here
	}
	return r.dirty()
}

const (
	// l0Files is twice as many flushes as wait in level 0 until they are compacted into the next, together: fewer, and what is below is rewritten more
	// often; more, and each read looks at more tables. With l0Most flushes Pebble stops writes.
	l0Files = 12
	l0Most  = 24
	// memtables is with how many of them, the one that fills included, Pebble stops writes: one is flushed at leisure, and a snapshot or a new floor may
	// have another one follow it before it is full.
	memtables = 4
)

// stateOptions are those of the database of the state, whose cache the caller lets go.
func (r *Region) stateOptions() *pebble.Options {
	cache := pebble.NewCache(r.cfg.CacheBytes)
	opts := &pebble.Options{
		Cache: cache, MemTableSize: r.cfg.MemtableBytes, DisableWAL: true, FormatMajorVersion: pebble.FormatNewest,
		L0CompactionThreshold: l0Files, L0StopWritesThreshold: l0Most, MemTableStopWritesThreshold: memtables,
	}
	r.way.memtable = int64(r.cfg.MemtableBytes)
	r.way.hurried.Store(0) // another one was closed, if the node starts anew
	r.way.starting.Store(true)
	r.listen(opts, "state", &r.way)
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return opts
}

// checkIdentity refuses a directory that another node filled, and draws the raft id of a new one. A directory that
// was lost gets another id: who comes back without what it has acknowledged is not who it was.
func (r *Region) checkIdentity() error {
	want := r.cfg.Region + "/" + r.cfg.Node
	v, err := r.own().Get(machine.NodeKey(nodeIdentity))
	if err != nil {
		return err
	}
	if r.reading {
		return r.belongsTo(v)
	}
	if v == nil {
		if r.id, err = r.formerID(); err != nil {
			return err
		}
		r.fresh = r.id != r.cfg.Node
		return errors.Join(r.db.Set(machine.NodeKey(nodeIdentity), []byte(want), pebble.NoSync),
			r.db.Set(machine.NodeKey(nodeGroups), []byte{0}, pebble.NoSync),
			r.db.Set(machine.NodeKey(nodeID), []byte(r.id), pebble.NoSync), r.flush())
	}
	if string(v) != want {
		return fmt.Errorf("it belongs to node %s, not %s: give this node a directory of its own", v, want)
	}
	id, err := r.own().Get(machine.NodeKey(nodeID))
	r.id = string(id)
	return err
}

// formerID draws the raft id of a new directory. In one that a version before 0.3 made it is the node's name.
func (r *Region) formerID() (string, error) {
	const identity = "identity"
	v, err := r.own().Get(machine.MetaKey(identity))
	if v == nil {
		return r.drawID(), err
	}
	return r.cfg.Node, errors.Join(err, r.db.Delete(machine.MetaKey(identity), pebble.NoSync))
}

func (r *Region) drawID() string {
	return r.cfg.Node + "." + strings.ToLower(rand.Text()[:entryLength])
}

const (
	nodeIdentity = "identity" // region/node
	nodeID       = "id"       // raft id
	nodeClean    = "clean"    // there while no process runs, if the last one ended in order: see endedMark
	nodeTaken    = "taken"    // Raft index of the state that was last taken from another node, 8 bytes; of groups: /group follows
	nodeSeveral  = "several"  // whether other nodes are in its groups, 1 byte: 0 or 1. Not there: see checkSeveral
	nodeLeft     = "left"     // there if the node is no longer part of the region, for good
	nodeGroups   = "groups"   // how many groups the region has, 1 byte; 0: not known yet. Not there: one, as before 0.4
)

// entryLength is how many characters of 5 random bits tell processes and directories apart.
const entryLength = 10

// halt ends Raft, after which nothing is applied any more.
func (r *Region) halt() error {
	r.stop()
	r.way.hurried.Add(1) // a snapshot may be under way
	r.lastAnswers()
	var errs []error
	for _, g := range r.held {
		errs = append(errs, g.halt())
	}
	if r.lanes != nil {
		errs = append(errs, r.lanes.close())
	}
	return errors.Join(errs...)
}

func (r *Region) release() error {
	errs := []error{r.halt()}
	if r.logs != nil {
		errs = append(errs, r.logs.close())
	}
	if r.db != nil {
		failed := r.failure.get() != nil
		if !failed && r.ordered && r.proves() && errors.Join(errs...) == nil {
			errs = append(errs, r.clean())
		}
		if !failed {
			errs = append(errs, r.flush())
		}
		errs = append(errs, r.db.Close())
	}
	return errors.Join(errs...)
}

// work finds out how many groups the region has, if that is not known, and then takes part in them.
func (r *Region) work(ctx context.Context) error {
	if err := r.settle(ctx); err != nil || r.count == 0 {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, grp := range r.all() {
		g.Go(func() error { return grp.propose(ctx) })
		g.Go(func() error { return grp.leader.follow(ctx, grp.raft) })
		g.Go(func() error { return grp.leadTerm(ctx, grp.lead) })
		g.Go(func() error { return grp.Lead(ctx, grp.merge) })
		g.Go(func() error { return grp.prove(ctx) })
		g.Go(func() error { return grp.cut(ctx) })
		g.Go(func() error { return grp.leaveEvicted(ctx) })
	}
	g.Go(func() error { return r.notice(ctx) })
	g.Go(func() error { return r.space.run(ctx) })
	g.Go(func() error { return r.join(ctx) })
	g.Go(func() error { return r.heed(ctx) })
	return g.Wait()
}

// Ready is closed when the region can serve: its logs are replayed and all groups have an incarnation.
func (r *Region) Ready() <-chan struct{} { return r.ready }

// join founds the region if it is this node's turn, and makes the node ready once it has all that was acknowledged.
func (r *Region) join(ctx context.Context) error {
	if err := r.found(ctx); err != nil {
		return err
	}
	for _, g := range r.all() {
		if !g.catchUp(ctx) {
			return nil
		}
	}
	r.way.starting.Store(false)
	close(r.ready)
	<-ctx.Done()
	return nil
}
