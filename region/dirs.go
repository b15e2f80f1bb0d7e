package region

import "github.com/cockroachdb/pebble/v2/vfs"

// watchedDirs ends the node when a directory of Pebble's cannot be synced. Pebble panics then, on whichever goroutine it happens. What Pebble writes in the background
// makes way. It compares file systems, so this is used as a pointer.
type watchedDirs struct {
	vfs.FS
	quit func(error)
	way  *yielding
}

// Create implements vfs.FS.
func (d *watchedDirs) Create(name string, what vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, what)
	if err != nil {
		return nil, err
	}
	return d.way.file(f, what), nil
}

// OpenDir implements vfs.FS.
func (d *watchedDirs) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return watchedDir{f, name, d.quit}, nil
}

type watchedDir struct {
	vfs.File
	name string
	quit func(error)
}

// Sync implements vfs.File.
func (d watchedDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.quit(diskError("sync directory "+d.name, err))
	}
	return nil
}
