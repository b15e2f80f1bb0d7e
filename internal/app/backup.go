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

	"github.com/roamsync/roam/region"
)

// BackupOptions is what `roam backup` is told.
type BackupOptions struct {
	Admin string `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node of the region that holds data."`
	Out   string `required:"" placeholder:"FILE" help:"File for the backup, or - for standard output. A file is there when it is whole, and not before; one of that name is replaced then."`
}

// Backup asks a node for a backup of its region, proves it whole while it comes, and only then gives it its name.
func Backup(ctx context.Context, o BackupOptions, stdout, stderr io.Writer) error {
	start := time.Now()
	if at, err := os.Stat(o.Out); err == nil && at.IsDir() {
		return fmt.Errorf("--out %s: it is a directory: name a file in it", o.Out)
	}
	body, err := ask(ctx, o.Admin, http.MethodGet, backupPath, content{})
	if err != nil {
		return err
	}
	defer body.Close()
	if o.Out == "-" {
		saved, err := copyBackup(body, stdout, stderr)
		return errors.Join(err, said(stderr, saved, "standard output", start, err))
	}
	partial := o.Out + ".partial"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	saved, err := copyBackup(body, f, stderr)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	if err := errors.Join(os.Rename(partial, o.Out), syncParent(o.Out)); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return said(stderr, saved, o.Out, start, nil)
}

// copyBackup copies a backup and proves it whole on the way.
func copyBackup(from io.Reader, to, stderr io.Writer) (region.Saved, error) {
	out := &counted{w: to}
	saved, err := region.ReadBackup(io.TeeReader(from, out), progress(stderr, "backup", out))
	if err != nil {
		err = fmt.Errorf("the backup was cut short, and is of no use: %w", err)
	}
	return saved, err
}

func said(w io.Writer, s region.Saved, where string, start time.Time, err error) error {
	if err != nil {
		return nil
	}
	if s.Behind {
		fmt.Fprintln(w, "roam backup: the node did not hear from a leader, or could not catch up with it, in time: what other nodes had acknowledged may be missing")
	}
	_, err = fmt.Fprintf(w, "roam backup: %s: region %s by node %s, %d sessions, %d keys, in %s\n",
		where, s.Region, s.Node, s.Sessions, s.Keys, time.Since(start).Round(time.Millisecond))
	return err
}

// progressEvery is how often somebody who waits is told how far it is.
const progressEvery = 2 * time.Second

// progress tells how far a backup has come, now and then.
func progress(w io.Writer, what string, bytes *counted) func(region.Saved) {
	last := time.Now()
	return func(s region.Saved) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "roam %s: %d MiB, %d sessions\n", what, bytes.n>>20, s.Sessions)
	}
}

func syncParent(file string) error {
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// RestoreOptions is what `roam restore` is told. Its flags are those of serve, so that one --config serves both.
type RestoreOptions struct {
	Data   string `default:"roam-data" placeholder:"DIR" help:"Directory to make: absent, or empty."`
	In     string `required:"" placeholder:"FILE" help:"File that roam backup wrote, or - for standard input."`
	Region string `placeholder:"NAME" help:"Region that the backup must be of. Default: whichever it is of."`
	Node   string `placeholder:"NAME" help:"Name of the node that will be started in the directory. Default: that of the node which was backed up."`
}

// Restore makes a node's directory from a backup, without any node.
func Restore(ctx context.Context, o RestoreOptions, stdin io.Reader, stdout, stderr io.Writer) error {
	in := stdin
	if o.In != "-" {
		f, err := os.Open(o.In)
		if err != nil {
			return fmt.Errorf("--in: %w", err)
		}
		defer f.Close()
		in = f
	}
	read := &counted{w: io.Discard}
	s, err := region.Restore(ctx, region.RestoreConfig{Dir: o.Data, Region: o.Region, Node: o.Node}, io.TeeReader(in, read),
		progress(stderr, "restore", read))
	if err != nil {
		return fmt.Errorf("restore --in %s into --data %s: %w", o.In, o.Data, err)
	}
	node := s.Node
	if o.Node != "" {
		node = o.Node
	}
	if s.Behind {
		fmt.Fprintln(stderr, "roam restore: the node had not caught up with its region when this backup was taken: what other nodes had acknowledged may be missing")
	}
	_, err = fmt.Fprintf(stdout, `restored %d sessions of region %s, as of %s, into %s
Start this node first: roam serve --region %s --node %s --data %s, with its other flags as always.
It begins a new incarnation, and gets from other regions what it had given them since.
With --bootstrap-expect 3 or 5, start the other nodes after it, each with an empty --data: they take the state from it.
`, s.Sessions, s.Region, s.Time.Format(time.RFC3339), o.Data, s.Region, node, o.Data)
	return err
}

// RecoverOptions is what `roam recover` is told. Its flags are those of serve, so that one --config serves both.
type RecoverOptions struct {
	Data   string `default:"roam-data" placeholder:"DIR" help:"Directory of the node that is left. It must not run."`
	Region string `required:"" placeholder:"NAME" help:"Region of the node."`
	Node   string `default:"n1" placeholder:"NAME" help:"Name of the node."`
	Yes    bool   `help:"Do it. Without it, nothing is changed."`
}

// Recover makes the last node that is left its region.
func Recover(_ context.Context, o RecoverOptions, stdout io.Writer) error {
	if !o.Yes {
		return fmt.Errorf(`--yes is missing, so nothing was changed. This makes node %s the whole of region %s, from what is in --data %s:
- all that is in this node's log counts from then on, also what was never acknowledged;
- what only the other nodes had is gone from this region (other regions, and clients, bring back what they have);
- the other nodes must never run again in their old directories: do this only if a majority of them is lost for good`, o.Node, o.Region, o.Data)
	}
	got, err := region.Recover(region.Config{Region: o.Region, Node: o.Node, Dir: o.Data})
	if err != nil {
		return fmt.Errorf("recover --data %s: %w", o.Data, err)
	}
	_, err = fmt.Fprintf(stdout, `recovered region %s from node %s: %d Raft groups, %d entries of the log were not applied yet and count now
Start this node first, with its flags as always. It begins a new incarnation. Start the other nodes after it, each with an empty --data.
`, o.Region, got.ID, got.Groups, got.Replayed)
	return err
}
