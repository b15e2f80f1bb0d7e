package redistest

import (
	"os/exec"
	"syscall"
)

// noOrphan has a server end with the test process, also when that is killed.
func noOrphan(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
