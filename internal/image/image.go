// Package image copies the directory of a node that does not run as an image of its whole file system would have it: a copy that its node takes for the
// original, for as long as it believes the mark of a process that ended in order. It is for tests of what is promised even then. Whoever copies files alone, as
// operators do, has a copy that is not taken for the original (package birth).
package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/roamsync/roam/region/birth"
	"github.com/roamsync/roam/region/machine"
)

// Copy copies a directory to one that is not there yet. Where to is when the node starts in it does not count; a file in it must not change until then.
func Copy(to, from string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	if err := believed(to); err != nil {
		return fmt.Errorf("image in %s: %w", to, err)
	}
	return nil
}

// believed has the mark in a copy, if it bears one, speak of the copy. When the process ended stays.
func believed(dir string) (err error) {
	const when = 8 // bytes of the mark
	db, err := pebble.Open(filepath.Join(dir, "state"), &pebble.Options{
		DisableWAL: true, FormatMajorVersion: pebble.FormatNewest, ErrorIfNotExists: true, Logger: quiet{},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	key := machine.NodeKey("clean")
	v, held, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	mark := slices.Clone(v[:min(when, len(v))])
	if err := held.Close(); err != nil {
		return err
	}
	born, err := birth.Of(dir)
	if err != nil {
		return err
	}
	return errors.Join(db.Set(key, append(mark, born...), pebble.NoSync), db.Flush())
}

// quiet is told by Pebble what is of no concern to a test.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
