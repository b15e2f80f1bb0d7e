//go:build !linux

package redistest

import "os/exec"

// noOrphan does nothing where the system has no means for it.
func noOrphan(*exec.Cmd) {}
