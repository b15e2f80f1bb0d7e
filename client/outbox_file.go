package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// maxDead is how many lines of forgotten ops a FileOutbox may hold besides as many as there are kept ones, before the
// file is written anew.
const maxDead = 1024

// FileOutbox is an Outbox in a file, a line of JSON for every op that came or went. An op is on disk when Add returns.
// One process may use a file at a time.
type FileOutbox struct {
	path string

	// mu lets one write at a time reach the file: it is held across I/O, and nothing else waits for it.
	mu    sync.Mutex
	file  *os.File
	items []Item
	dead  int  // lines of the file that say nothing any more
	torn  bool // the file may end in half a line: it is to be written anew before the next
}

// line is an op that came, or ops that went.
type line struct {
	Add  *Item    `json:"add,omitempty"`
	S    string   `json:"s,omitempty"`
	Gone []string `json:"gone,omitempty"`
}

// OpenFileOutbox opens or makes the file. The caller closes it when the Client's Run has returned.
func OpenFileOutbox(path string) (*FileOutbox, error) {
	o := &FileOutbox{path: path}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	if err := o.replay(b); err != nil {
		return nil, fmt.Errorf("outbox %s: %w", path, err)
	}
	if err := o.rewrite(); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return o, nil
}

// replay reads the lines. One that has no end was being written when the process died: nobody was told that it was.
func (o *FileOutbox) replay(b []byte) error {
	n := 0
	for text := range bytes.Lines(b) {
		n++
		if !bytes.HasSuffix(text, []byte("\n")) {
			return nil
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if l.Add != nil {
			o.items = append(o.items, *l.Add)
		}
		o.remove(l.S, l.Gone)
	}
	return nil
}

func (o *FileOutbox) remove(session string, oids []string) {
	before := len(o.items)
	o.items = slices.DeleteFunc(o.items, func(it Item) bool {
		return it.Session == session && slices.Contains(oids, it.OID)
	})
	o.dead += 1 + before - len(o.items)
}

// rewrite writes a new file of what is kept, and puts it in the place of the old one when it is on disk.
func (o *FileOutbox) rewrite() error {
	var b []byte
	for i := range o.items {
		b = append(b, encodeLine(line{Add: &o.items[i]})...)
	}
	f, err := os.OpenFile(o.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(o.path+".new", o.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if o.file != nil {
		_ = o.file.Close() // all that it held is in the new one
	}
	o.file, o.dead, o.torn = f, 0, false
	return syncDir(filepath.Dir(o.path))
}

// write appends a line. A disk that does not take all of it, or any more, is given a new file of what is kept, now or before the next line.
func (o *FileOutbox) write(l line, sync bool) error {
	if o.torn {
		if err := o.rewrite(); err != nil {
			return err
		}
	}
	_, err := o.file.Write(encodeLine(l))
	if err == nil && sync {
		err = o.file.Sync()
	}
	if err != nil {
		o.torn = true
		return errors.Join(err, o.rewrite())
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encodeLine(l line) []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("client: encode a line of the outbox: %v", err)) // Op was checked by who made it
	}
	return append(b, '\n')
}

// Load implements Outbox.
func (o *FileOutbox) Load() ([]Item, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.items), nil
}

// Add implements Outbox: the op is on disk when it returns nil.
func (o *FileOutbox) Add(it Item) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.write(line{Add: &it}, true); err != nil {
		return err
	}
	o.items = append(o.items, it)
	return nil
}

// Remove implements Outbox. It does not wait for the disk: an op that comes back after a crash is put again, which is
// harmless.
func (o *FileOutbox) Remove(session string, oids []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(session, oids)
	if o.dead > maxDead && o.dead > len(o.items) {
		return o.rewrite()
	}
	return o.write(line{S: session, Gone: oids}, false)
}

// Close closes the file.
func (o *FileOutbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file.Close()
}
