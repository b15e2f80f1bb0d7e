package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region"
	"github.com/roamsync/roam/region/salvage"
	"github.com/roamsync/roam/wire"
)

// RegionSalvageOptions is what `roam region salvage` is told.
type RegionSalvageOptions struct {
	Admin []string      `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin addresses of the nodes of a region that lives: all that may lead, if it has several."`
	Data  string        `required:"" placeholder:"DIR" help:"Directory of a node that does not run: of a region that was evicted, rebuilt empty, or forked. Nothing in it changes."`
	Work  string        `placeholder:"DIR" help:"Where a copy of it is made, and removed: absent, or empty. Most is linked, if it is on the same disk. Default: beside --data."`
	Yes   bool          `help:"Do it. Without, the command says what the disk holds that the region does not."`
	All   bool          `help:"Take in feeds as well of which the region does not keep enough any more to compare them. What it knows by its oid is not shown twice."`
	Wait  time.Duration `default:"30s" help:"How long to wait for what ops depend on, if the region lacks that."`
}

// errNotWhole ends a salvage that left something out, with status 1.
var errNotWhole = errors.New("not all that the disk held could be taken in")

// RegionSalvage has a region take in what a disk holds beyond it.
func RegionSalvage(ctx context.Context, o RegionSalvageOptions, w io.Writer) (err error) {
	to := &salvager{admins: o.Admin}
	for _, a := range o.Admin {
		if err := checkAddr("--admin", a); err != nil {
			return err
		}
	}
	if o.Wait < 0 || len(o.Admin) == 0 {
		return fmt.Errorf("--wait %s, %d addresses for --admin: at least 0, and one", o.Wait, len(o.Admin))
	}
	work, err := workDir(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	disk, err := region.OpenFound(o.Data, work, nil)
	if err != nil {
		return fmt.Errorf("--data %s: %w", o.Data, err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	fmt.Fprintf(w, "disk of node %s of region %s: %d entries of its log were not applied yet, and count\n", disk.Node, disk.Region, disk.Replayed)
	if disk.Torn != nil {
		fmt.Fprintf(w, "what is in its log cannot be read: %v\n", disk.Torn)
	}
	s := &salvaging{o: o, w: w, to: to, disk: disk}
	if err := disk.Do(func() error { return s.run(ctx) }); err != nil {
		return fmt.Errorf("%w. What was put until then counts; run the same command again", err)
	}
	return s.sum()
}

// workDir makes the directory of the copy.
func workDir(o RegionSalvageOptions) (string, error) {
	if o.Work == "" {
		data, err := filepath.Abs(o.Data)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(data); err != nil {
			return "", fmt.Errorf("--data: %w", err)
		}
		work, err := os.MkdirTemp(filepath.Dir(data), filepath.Base(data)+".salvage-*")
		if err != nil {
			err = fmt.Errorf("a copy is made beside --data, or in --work: %w", err)
		}
		return work, err
	}
	names, err := os.ReadDir(o.Work)
	if len(names) > 0 {
		return "", fmt.Errorf("--work %s: it is not empty", o.Work)
	}
	if err != nil {
		err = os.MkdirAll(o.Work, 0o755)
	}
	return o.Work, err
}

// salvaging is a salvage on its way.
type salvaging struct {
	o    RegionSalvageOptions
	w    io.Writer
	to   *salvager
	disk *region.Found

	feeds, failed                 int // failed: partitions
	only, erased, missing, unsure uint64
	there                         uint64 // without --yes: of only, what was taken in before
	done                          salvage.Done
}

func (s *salvaging) run(ctx context.Context) error {
	for p := range uint8(crdt.Partitions) {
		err := s.partition(ctx, p)
		if errors.Is(err, salvage.ErrDisk) || errors.Is(err, salvage.ErrCauses) { // what it is with others is another matter
			fmt.Fprintln(s.w, err)
			s.failed++
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s *salvaging) partition(ctx context.Context, p uint8) error {
	plan, err := salvage.Compare(ctx, s.disk.Of(p), p, s.to, s.o.All)
	if err != nil {
		return err
	}
	s.show(plan)
	if !s.o.Yes {
		there, err := plan.There(ctx, s.to)
		s.there += there
		return err
	}
	done, err := plan.Put(ctx, s.disk.Of(p), s.to, s.o.Wait)
	s.done.Add(done)
	return err
}

// show says what a plan has, and counts it.
func (s *salvaging) show(plan *salvage.Plan) {
	for _, b := range plan.Branches {
		s.feeds++
		s.only, s.erased, s.missing = s.only+b.Ops(), s.erased+uint64(len(b.Erased)), s.missing+b.Missing()
		fmt.Fprintf(s.w, "partition %d: %s from %d to %d", plan.Partition, b.Origin, b.Shared+1, b.End.F)
		if b.Forked {
			fmt.Fprint(s.w, ", where the region has something else under these numbers")
		}
		fmt.Fprintf(s.w, "; they go under %s\n", b.As)
		if b.Missing() > 0 {
			fmt.Fprintf(s.w, "partition %d: %s from %d to %d is not kept on the disk as ops any more\n", plan.Partition, b.Origin, b.Shared+1, b.From-1)
		}
	}
	for _, o := range plan.Coming {
		fmt.Fprintf(s.w, "partition %d: some of %s is not in the region yet, and comes from %s itself\n", plan.Partition, o, o.Region())
	}
	for _, o := range plan.Unsure {
		s.unsure++
		fmt.Fprintf(s.w, "partition %d: %s ends before what the region keeps of it, and is taken to be the same (--all takes it in)\n", plan.Partition, o)
	}
}

// sum says what was done.
func (s *salvaging) sum() error {
	fmt.Fprintf(s.w, "%d feeds, %d ops that only this disk has under these numbers; %d ops of sessions that were erased since are left out\n", s.feeds, s.only, s.erased)
	switch {
	case s.only == 0:
	case !s.o.Yes && s.there == s.only:
		fmt.Fprintln(s.w, "all of them were taken in before: there is nothing to do")
	case !s.o.Yes:
		fmt.Fprintln(s.w, "nothing was done: --yes has the region take them in")
	default:
		fmt.Fprintf(s.w, "%d ops taken in, %d of them known by their oids (their clients had put them again); %d were taken in before\n",
			s.done.Put, s.done.Known, s.done.There)
	}
	if s.missing == 0 && s.failed == 0 && s.disk.Torn != nil {
		return fmt.Errorf("%w: its log cannot be read, as said above, so what was in it and not yet applied is not known", errNotWhole)
	}
	if s.missing > 0 || s.failed > 0 {
		return fmt.Errorf("%w (%d ops are not kept as such, %d partitions are not through)", errNotWhole, s.missing, s.failed)
	}
	return nil
}

// salvager is a region that lives, at the admin addresses of its nodes.
type salvager struct {
	admins []string
	leads  [crdt.Partitions]int // the address that answered last
}

const (
	// leaderWait is how long a partition may have no leader.
	leaderWait  = 15 * time.Second
	leaderLook  = 250 * time.Millisecond
	salvageWait = time.Minute // for one answer
)

// Held implements salvage.Living.
func (c *salvager) Held(ctx context.Context, p uint8, at []salvage.Mark) (all []salvage.Held, err error) {
	return all, c.ask(ctx, p, salvageHeld, heldAsked{p, at}, &all)
}

// Erased implements salvage.Living.
func (c *salvager) Erased(ctx context.Context, p uint8, sessions []string) (all map[string]crdt.Stamp, err error) {
	return all, c.ask(ctx, p, salvageErased, erasedAsked{p, sessions}, &all)
}

// Expect implements salvage.Living.
func (c *salvager) Expect(ctx context.Context, ends []wire.Final) error {
	return c.ask(ctx, ends[0].Partition, salvageExpect, expected{ends[0].Partition, ends}, &struct{}{})
}

// Take implements salvage.Living.
func (c *salvager) Take(ctx context.Context, rs wire.Records) (cursor, known uint64, err error) {
	var t took
	err = c.ask(ctx, rs.Partition, salvageTake, takenIn{rs.Partition, rs.Origin, rs.From, rs.Records, rs.Hash[:]}, &t)
	return t.Cursor, t.Known, err
}

// ask asks the node that leads a partition, whichever that is.
func (c *salvager) ask(ctx context.Context, p uint8, path string, question, said any) error {
	with, err := jsonOf(question)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(leaderWait); ; {
		for range c.admins {
			if err = c.one(ctx, c.admins[c.leads[p]], path, with, said); !elsewhere(err) {
				return err
			}
			c.leads[p] = (c.leads[p] + 1) % len(c.admins)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no node that was asked leads: %w. Give --admin all nodes of the region, with commas between", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leaderLook):
		}
	}
}

func (c *salvager) one(ctx context.Context, admin, path string, with content, said any) error {
	ctx, cancel := context.WithTimeout(ctx, salvageWait)
	defer cancel()
	return askJSON(ctx, admin, http.MethodPost, path, with, maxSalvage, said)
}

// elsewhere reports whether another node may lead: this one does not, or is down or on its way there.
func elsewhere(err error) bool {
	var said *refusal
	return errors.Is(err, errNoAnswer) ||
		errors.As(err, &said) && (said.code == http.StatusMisdirectedRequest || said.code == http.StatusServiceUnavailable)
}
