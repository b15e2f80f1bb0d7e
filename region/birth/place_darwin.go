package birth

import (
	"errors"
	"io/fs"
	"syscall"
)

// place is a file's inode, and when that was last changed, in nanoseconds.
func place(info fs.FileInfo) (inode, changed int64, err error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, errors.ErrUnsupported
	}
	return int64(st.Ino), st.Ctimespec.Nano(), nil
}
