// Package reload reads files again when they change, so that keys and certificates can be exchanged while a node runs.
// What it hands on was the same at two looks in a row: somebody who writes a file has ended by then. It refuses to know what is
// in the files; whoever takes the contents judges them, and goes on with what it had if they are wrong.
package reload

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 20

// Files are files that are of use together only, such as a certificate and its key. Not for several goroutines at once.
type Files struct {
	paths []string
	take  func(contents [][]byte) error
	seen  sum // at the last look
	tried sum // was taken or refused
}

// sum stands for the contents of all files, or for why they cannot be read.
type sum [sha256.Size]byte

// New reads nothing. take gets what is in the files, in the order of the paths; it returns an error to go on with what it had.
func New(take func(contents [][]byte) error, paths ...string) *Files {
	return &Files{paths: paths, take: take}
}

// Load has the files taken as they are.
func (f *Files) Load() error {
	now, contents, err := f.read()
	f.seen, f.tried = now, now
	if err != nil {
		return err
	}
	return f.take(contents)
}

// Look reads the files once. tried says that they had settled and were given to take, or could not be read; err is why they
// were refused. The same contents are tried once, so what is wrong is said once.
func (f *Files) Look() (tried bool, err error) {
	now, contents, err := f.read()
	settled := now == f.seen
	f.seen = now
	if !settled || now == f.tried {
		return false, nil
	}
	f.tried = now
	if err != nil {
		return true, err
	}
	return true, f.take(contents)
}

// read returns what is in the files, and a sum of it or of the reason why not.
func (f *Files) read() (s sum, contents [][]byte, err error) {
	all := sha256.New()
	for _, path := range f.paths {
		b, bad := readFile(path)
		err = errors.Join(err, bad)
		fmt.Fprintf(all, "%d %v\n", len(b), bad)
		all.Write(b)
		contents = append(contents, b)
	}
	return sum(all.Sum(nil)), contents, err
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: over %d bytes", path, maxFile)
	}
	return b, err
}
