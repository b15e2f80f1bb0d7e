package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds every wait for something that must happen. Only a hang reaches it.
const patience = 60 * time.Second

// process is a running or ended process and what it said.
type process struct {
	name        string
	cmd         *exec.Cmd
	out, errout *sayings
	ended       chan struct{} // closed when it has ended and all it said is here
}

// start runs a program. Its environment is the test's without ROAM_…, and env.
func start(name string, env []string, program string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, args...), out: newSayings(), errout: newSayings(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.errout
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "ROAM_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, "GORACE=atexit_sleep_ms=20"), env...) // not a second at each exit
	if err := startProcess(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	return p, nil
}

// signal sends a signal to the process, by its id.
func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// kill ends the process at once, stopped or not, and waits for that.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// exit waits for the process to end and returns its exit status.
func (p *process) exit(within time.Duration) (int, error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(within):
	}
	said := p.errout.tail()
	p.signal(syscall.SIGQUIT) // what it waits for
	select {
	case <-p.ended:
	case <-time.After(within):
	}
	return 0, fmt.Errorf("%s has not ended after %v; it said:\n%s\nand its goroutines were:\n%s", p.name, within, said, p.errout.all())
}

// says waits until the process has written all the words, in one line of one of the streams, and returns the line.
func (p *process) says(words ...string) (string, error) {
	deadline := time.After(patience)
	for {
		out, errout := p.out.more(), p.errout.more()
		if line, ok := p.said(words...); ok {
			return line, nil
		}
		select {
		case <-out:
		case <-errout:
		case <-p.ended:
			if line, ok := p.said(words...); ok {
				return line, nil
			}
			return "", fmt.Errorf("%s ended (%v) without saying %q; it said:\n%s", p.name, p.cmd.ProcessState, words, p.errout.tail())
		case <-deadline:
			return "", fmt.Errorf("%s has not said %q after %v; it said:\n%s", p.name, words, patience, p.errout.tail())
		}
	}
}

// said returns a line that has all the words, if there is one by now.
func (p *process) said(words ...string) (string, bool) {
	if line, ok := p.out.line(words); ok {
		return line, true
	}
	return p.errout.line(words)
}

// faults returns what the process said that it must never say.
func (p *process) faults() error {
	for _, mark := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if i := strings.Index(p.errout.all(), mark); i >= 0 {
			return fmt.Errorf("%s: %s", p.name, p.errout.all()[i:min(len(p.errout.all()), i+6000)])
		}
	}
	return nil
}

// sayings collects what a process writes.
type sayings struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // closed and replaced at every write
}

func newSayings() *sayings { return &sayings{news: make(chan struct{})} }

// Write implements io.Writer.
func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
	return s.text.Write(b)
}

func (s *sayings) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *sayings) more() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.news
}

func (s *sayings) tail() string {
	const bytes = 4000
	all := s.all()
	return all[max(0, len(all)-bytes):]
}

func (s *sayings) line(words []string) (string, bool) {
	for line := range strings.Lines(s.all()) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}

// redis is a real Redis server that keeps nothing on disk.
type redis struct {
	port string
	*process
}

func startRedis(port string) (*redis, error) {
	dir := filepath.Join(filepath.Dir(binary), "redis-"+port)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := start("redis "+port, nil, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir)
	if err != nil {
		return nil, err
	}
	_, err = p.says("Ready to accept connections")
	return &redis{port, p}, errors.Join(err)
}
