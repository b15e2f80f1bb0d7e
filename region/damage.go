package region

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	raftwal "github.com/hashicorp/raft-wal"
)

// damageFile is in a directory of which some part did not read back as it was written: its owner decides what happens next.
const damageFile = "DAMAGED"

var errDamaged = errors.New("what is in the directory is damaged")

// damageHelp is what can be done about it.
const damageHelp = "A node of several: empty the directory, and the node gets what it held from the others. A node alone: restore a backup of it, or empty " +
	"it, and other regions bring what they hold. Replace the disk if it happens again. To start with the directory as it is, once what is damaged has been " +
	"put right, remove the file %s"

// isDamage tells bytes that are not those that were written from a disk that does not answer.
func isDamage(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, raftwal.ErrCorrupt) || errors.Is(err, errEntrySum) || errors.Is(err, errLogEntry)
}

// opened leaves the mark if what could not be opened is damaged.
func (r *Region) opened(what string, err error) error {
	if err != nil && isDamage(err) {
		return r.damaged(what, err)
	}
	return err
}

// damaged leaves the mark, so that no start goes on from what is damaged, and returns what the node says as it ends.
func (r *Region) damaged(where string, why error) error {
	path := filepath.Join(r.cfg.Dir, damageFile)
	text := fmt.Sprintf("found: %s\nin: %s\nwhat: %s\n", r.cfg.Now().UTC().Format(time.RFC3339), where, oneLine(why))
	err := fmt.Errorf("%w: %s: %w. "+damageHelp, errDamaged, where, why, path)
	return errors.Join(err, r.mark(path, text))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// mark writes the file, durably, unless there is one: what was found first counts.
func (r *Region) mark(path, text string) error {
	r.marking.Lock()
	defer r.marking.Unlock()
	fs := r.cfg.files()
	if _, err := fs.Stat(path); err == nil {
		return nil
	}
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("note the damage: %w", err)
	}
	_, err = io.WriteString(f, text)
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(fs, r.cfg.Dir)); err != nil {
		return fmt.Errorf("note the damage: %w", err)
	}
	return nil
}

// checkDamage refuses a directory that bears the mark.
func (r *Region) checkDamage() error {
	path := filepath.Join(r.cfg.Dir, damageFile)
	f, err := r.cfg.files().Open(path)
	if err != nil {
		return nil // none, or what is opened next says what is wrong
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s. "+damageHelp, errDamaged, strings.Join(strings.Split(strings.TrimSpace(string(text)), "\n"), ", "), path)
}
