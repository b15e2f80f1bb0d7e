package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/roamsync/roam/client"
)

// maxOutboxes is how many processes may keep an outbox of one session at once; the next one is refused.
const maxOutboxes = 8

// outbox is a file that no other process uses meanwhile.
type outbox struct {
	*client.FileOutbox
	path string
	lock *os.File
}

var errInUse = errors.New("in use")

// outboxName tells files of different users, sessions and services apart.
func outboxName(o *Options) string {
	u, _ := url.Parse(o.URL[0]) // checked
	sum := sha256.Sum256([]byte(userOf(o.Token) + "\n" + o.Session + "\n" + u.Host))
	return strings.ReplaceAll(o.Session, "/", "+") + "-" + hex.EncodeToString(sum[:6])
}

// openOutbox opens the first file that no other process holds, and takes over what is left in the others that nobody
// does.
func openOutbox(o *Options) (*outbox, error) {
	if o.StateDir == "" {
		return nil, errors.New("--state-dir is required, since there is no home directory (--no-outbox goes without)")
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	var mine *outbox
	var err error
	for i := range maxOutboxes {
		path := filepath.Join(o.StateDir, fmt.Sprintf("%s-%d.outbox", outboxName(o), i+1))
		if mine == nil {
			mine, err = lockOutbox(path)
		} else {
			err = mine.adopt(path)
		}
		if err != nil && !errors.Is(err, errInUse) {
			if mine != nil {
				err = errors.Join(err, mine.Close())
			}
			return nil, fmt.Errorf("%w (--no-outbox goes without)", err)
		}
	}
	if mine == nil {
		return nil, fmt.Errorf("%d other processes have this session open: --no-outbox goes without an outbox", maxOutboxes)
	}
	return mine, nil
}

func lockOutbox(path string) (*outbox, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errInUse
		}
		return nil, fmt.Errorf("outbox: lock %s: %w", lock.Name(), err)
	}
	f, err := client.OpenFileOutbox(path)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &outbox{f, path, lock}, nil
}

// adopt takes over what another process has left. The file is emptied after that: what a crash in between leaves in
// both is put twice, which is harmless.
func (b *outbox) adopt(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	left, err := lockOutbox(path)
	if err != nil {
		return err
	}
	defer left.Close()
	items, err := left.Load()
	if err != nil {
		return err
	}
	held, err := b.Load()
	if err != nil {
		return err
	}
	for _, it := range items {
		if !slices.ContainsFunc(held, func(h client.Item) bool { return h.Session == it.Session && h.OID == it.OID }) {
			if err := b.Add(it); err != nil {
				return err
			}
		}
		if err := left.Remove(it.Session, []string{it.OID}); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file and lets others have it.
func (b *outbox) Close() error { return errors.Join(b.FileOutbox.Close(), b.lock.Close()) }
