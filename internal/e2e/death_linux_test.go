package e2e

import (
	"os/exec"
	"runtime"
	"syscall"
)

// starts are commands to start. They are started by one thread that lives as long as the test, since the kernel
// ends them when that thread ends: nothing is left behind, even if the test is killed.
// launch serves it from the start of TestMain on.
var starts = make(chan func())

func launch() {
	runtime.LockOSThread()
	for start := range starts {
		start()
	}
}

// startProcess is cmd.Start for a process that must not outlive the test.
func startProcess(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := make(chan error)
	starts <- func() { err <- cmd.Start() }
	return <-err
}
