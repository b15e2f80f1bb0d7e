//go:build unix

package bench

import (
	"fmt"
	"syscall"
)

// descriptors checks that the process may have so many connections. Go has raised the soft limit to the hard one.
func descriptors(connections int) error {
	const others = 64
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if need := uint64(connections + others); uint64(l.Cur) < need {
		return fmt.Errorf("%d connections need %d open files, and this process may have %d: raise it (ulimit -Hn), or split the load",
			connections, need, l.Cur)
	}
	return nil
}
