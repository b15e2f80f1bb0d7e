package wan

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTime is how long a process may take to end in order.
const stopTime = 20 * time.Second

// process is a program that was started; what it says goes to a file.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// startProcess starts a program by way of start, without the rig's own ROAM_… in its environment.
func startProcess(name, log string, start func(*exec.Cmd) error, program string, args ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{name: name, cmd: exec.Command(program, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "ROAM_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	if err := start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

// Kill implements life.
func (p *process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop implements life.
func (p *process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		p.Kill()
		return fmt.Errorf("%s has not ended %s after SIGTERM", p.name, stopTime)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with status %d after SIGTERM", p.name, code)
	}
	return nil
}

// Ended implements life.
func (p *process) Ended() <-chan struct{} { return p.ended }

// Faults implements life.
func (p *process) Faults() string {
	all, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	for _, mark := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if i := bytes.Index(all, []byte(mark)); i >= 0 {
			return string(all[i:min(len(all), i+4000)])
		}
	}
	return ""
}
