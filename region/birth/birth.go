// Package birth tells a node's directory from every copy of it, also one that was put in its place. Each process that begins to work there makes a file
// anew; what Of says of the directory holds until the next one does. A copy of the directory has a copy of that file, which is another inode, or has changed
// later: no program can set that time. What is copied over the directory, and leaves the file alone, finds other contents. And a machine that was
// started since is another one: images of whole disks are started as a rule, on machines whose clock may be that of the image.
//
// It does not tell an image of the whole file system that is put back under a running kernel: there inodes and times are what they were. Nor does it know
// which of the two is the older. It may take the same directory for another one, where somebody has changed the file's owner, mode, label or links.
package birth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// File is made anew by each process.
const File = "started"

// longest is more than is written to the file, in bytes.
const longest = 64

// Begin makes the file anew: what Of said of the directory it never says again, also if power fails when Begin has returned.
func Begin(dir string) error {
	made := filepath.Join(dir, File+".new") // beside the one before, and so another inode; what a start that was cut short has left is written over
	f, err := os.OpenFile(made, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(rand.Text())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(made, filepath.Join(dir, File)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := vfs.Default.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Of is what tells the directory from every copy of it, since Begin: to be compared, and nothing else. Without the file it is os.ErrNotExist.
func Of(dir string) (string, error) {
	name := filepath.Join(dir, File)
	info, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > longest {
		return "", fmt.Errorf("%s is not a node's: %s, %d bytes", name, info.Mode(), info.Size())
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	inode, changed, err := place(info)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return tell(string(text), inode, changed, boot()), nil
}

// tell puts together what Of says. All of it counts.
func tell(text string, inode, changed int64, boot string) string {
	return fmt.Sprintf("%q %d %d %q", text, inode, changed, boot)
}

// boot is drawn by Linux when it starts; "" where nobody says.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
