package app

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/image"
	"github.com/roamsync/roam/internal/memnet"
	"github.com/roamsync/roam/region"
)

// numbers are all contents that were ever seen under a number, in whichever region.
type numbers map[numbered]string

type numbered struct {
	origin    crdt.Origin
	partition uint8
	f         uint64
}

// note remembers what a region's feeds hold, and returns the numbers that have two contents.
func (all numbers) note(r *region.Region) (twice []numbered, err error) {
	for _, o := range r.Origins() {
		for p := range uint8(crdt.Partitions) {
			rs, err := r.Feed(o, p, 1, 64<<20)
			if err != nil {
				return nil, fmt.Errorf("feed of %s, partition %d: %w", o, p, err)
			}
			for i, b := range rs.Records {
				at := numbered{o, p, rs.From + uint64(i)}
				if was, seen := all[at]; seen && was != string(b) {
					twice = append(twice, at)
				}
				all[at] = string(b)
			}
		}
	}
	return twice, nil
}

// look notes what all nodes hold that run.
func (w *world) look(all numbers) {
	w.t.Helper()
	for name, n := range w.nodes {
		twice, err := all.note(n.region)
		if err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
		for _, at := range twice {
			w.t.Errorf("two contents in %s under %d of %s, partition %d", name, at.f, at.origin, at.partition)
		}
	}
}

// fence is a drill: beijing goes on from a directory that lacks what it has numbered last, cut off from shanghai, which has some of that.
type fence struct {
	*world
	t    *testing.T
	dir  string
	seen numbers
	stop func()
}

func newFence(t *testing.T) *fence {
	f := &fence{world: newWorld(t, "shanghai"), t: t, dir: t.TempDir(), seen: numbers{}}
	f.stop = f.start("beijing", f.dir, f.ring)
	f.put("beijing", "first")
	return f
}

// kill ends beijing without a drain, in order or not: an image of its disk is as if power had failed if it is taken before.
func (f *fence) kill() {
	f.nodes["beijing"].killed.Store(true)
	f.stop()
}

// image copies beijing's file system.
func (f *fence) image() string {
	f.t.Helper()
	to := filepath.Join(f.t.TempDir(), "image")
	if err := image.Copy(to, f.dir); err != nil {
		f.t.Fatal(err)
	}
	return to
}

// more has beijing number what shanghai has too, and then what only its own disk and clients have.
func (f *fence) more() {
	f.t.Helper()
	for i := range 5 {
		f.put("beijing", fmt.Sprintf("both%d", i))
	}
	f.until("shanghai has it", func() bool { return f.has("shanghai", "both4") })
	f.net.CutBoth("beijing", "shanghai", memnet.Break)
	for i := range 5 {
		f.put("beijing", fmt.Sprintf("alone%d", i))
	}
	f.look(f.seen)
}

// back has beijing start from a directory while it is cut off, number something else, and meet shanghai again.
func (f *fence) back(dir string) {
	f.t.Helper()
	f.start("beijing", dir, f.ring)
	for i := range 8 {
		f.put("beijing", fmt.Sprintf("anew%d", i))
	}
	f.look(f.seen)
	f.net.CutBoth("beijing", "shanghai", memnet.Open)
	f.until("all is everywhere", func() bool { return f.has("beijing", "both4") && f.has("shanghai", "anew7") })
	f.equal()
	f.look(f.seen)
	for _, n := range f.nodes {
		n.killed.Store(true) // nobody waits for a drain
	}
}

// TestFence: whatever a region's disks forget, no number ever has two contents, although it goes on while it is cut off from all who
// could tell.
func TestFence(t *testing.T) {
	t.Parallel() // it waits, mostly
	t.Run("disks lost", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		f := newFence(t)
		f.more()
		f.kill()
		f.back(t.TempDir())
	})
	t.Run("image of a disk, as after a loss of power", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		f := newFence(t)
		f.kill()
		old := f.image()
		f.power(old)
		f.stop = f.start("beijing", f.dir, f.ring)
		f.more()
		f.kill()
		f.back(old)
	})
	t.Run("image of a disk that was stopped in order", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		f := newFence(t)
		f.stop()
		old := f.image()
		f.stop = f.start("beijing", f.dir, f.ring)
		f.more()
		f.kill()
		f.tune = func(o *ServeOptions) { o.ClockOffset = 2 * time.Minute } // since then
		f.back(old)
	})
	t.Run("old backup", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		f := newFence(t)
		file := filepath.Join(t.TempDir(), "backup")
		if err := Backup(t.Context(), BackupOptions{Admin: f.nodes["beijing"].opts.AdminAddr, Out: file}, nil, t.Output()); err != nil {
			t.Fatal(err)
		}
		f.more()
		f.kill()
		dir := filepath.Join(t.TempDir(), "restored")
		if err := Restore(t.Context(), RestoreOptions{Data: dir, In: file}, nil, t.Output(), t.Output()); err != nil {
			t.Fatal(err)
		}
		f.back(dir)
	})
	t.Run("forced recovery", func(t *testing.T) {
		t.Parallel() // they wait, mostly
		f := newFence(t)
		f.stop()
		behind := f.image() // of a node that had not heard the last
		f.stop = f.start("beijing", f.dir, f.ring)
		f.more()
		f.kill()
		if _, err := region.Recover(region.Config{Region: "beijing", Node: "n1", Dir: behind}); err != nil {
			t.Fatal(err)
		}
		f.back(behind)
	})
}

// TestFenceOfACopy: a directory is copied while its node is stopped in order, and put back at once, so that the node seems to have ended just now.
func TestFenceOfACopy(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFence(t)
	f.stop()
	old := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(old, os.DirFS(f.dir)); err != nil {
		t.Fatal(err)
	}
	f.stop = f.start("beijing", f.dir, f.ring)
	f.more()
	f.kill()
	f.back(old)
}

// power takes the mark of a process that ended in order from an image.
func (f *fence) power(image string) {
	f.t.Helper()
	r, err := region.New(region.Config{Region: "beijing", Node: "n1", Dir: image})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := r.Close(); err != nil { // it never ran: that leaves no mark
		f.t.Fatal(err)
	}
}

// TestFenceLooks: two contents under one number are found.
func TestFenceLooks(t *testing.T) {
	w := newWorld(t, "beijing")
	w.put("beijing", "m1")
	all := numbers{}
	if twice, err := all.note(w.nodes["beijing"].region); err != nil || len(twice) > 0 || len(all) == 0 {
		t.Fatal(twice, err)
	}
	for at, was := range all {
		all[at] = was + "?"
		break
	}
	if twice, err := all.note(w.nodes["beijing"].region); err != nil || len(twice) != 1 {
		t.Error(twice, err)
	}
}
