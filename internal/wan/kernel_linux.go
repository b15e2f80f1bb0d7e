package wan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kernel is the ground of real processes in network namespaces.
type kernel struct {
	roam    string // the program
	dir     string
	names   []string // of regions
	spaces  []*space
	forward *forwarder
	all     []*process
}

func newKernel(roam, dir string, regions []string, pid int, seed uint64) (ground, error) {
	k := &kernel{roam: roam, dir: dir, names: regions}
	if err := k.open(pid, seed); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *kernel) open(pid int, seed uint64) (err error) {
	var devices []int
	for i, r := range k.names {
		s, err := newSpace(fmt.Sprintf("%s%d-%s", spacePrefix, pid, r), i+1)
		if err != nil {
			return err
		}
		k.spaces, devices = append(k.spaces, s), append(devices, s.device)
	}
	k.forward, err = newForwarder(devices, seed)
	return err
}

func (k *kernel) index(region string) int {
	for i, name := range k.names {
		if name == region {
			return i
		}
	}
	panic("no region " + region)
}

// Start implements ground.
func (k *kernel) Start(n *node) (life, error) {
	return k.run(n.region, n.region+"-"+n.name, k.roam, n.args()...)
}

// run starts a program in a region.
func (k *kernel) run(region, name, program string, args ...string) (*process, error) {
	p, err := startProcess(name, filepath.Join(k.dir, name+".log"), k.spaces[k.index(region)].start, program, args...)
	if err == nil {
		k.all = append(k.all, p)
	}
	return p, err
}

// serveRedis implements redisGround.
func (k *kernel) serveRedis(region, port string, flags ...string) error {
	name := "redis-" + port + "-" + region
	_, err := k.run(region, name, "redis-server", append([]string{"--port", port, "--bind", "127.0.0.1", nodeHost(k.index(region)+1, 1),
		"--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", k.dir, "--dbfilename", name + ".rdb"}, flags...)...)
	return err
}

// Dialer implements ground.
func (k *kernel) Dialer(region string) dialFunc { return k.spaces[k.index(region)].dial }

// Ways implements ground.
func (k *kernel) Ways() ways { return k }

// Shape implements ways.
func (k *kernel) Shape(p Pair, s Shape) {
	from, to := k.index(p.From), k.index(p.To)
	k.forward.do(func() { k.forward.lanes[from][to].reshape(s) })
}

// Counts implements ways.
func (k *kernel) Counts() map[Pair]Count {
	all := map[Pair]Count{}
	k.forward.do(func() {
		for i, row := range k.forward.lanes {
			for j, l := range row {
				if i != j {
					all[Pair{k.names[i], k.names[j]}] = l.count
				}
			}
		}
	})
	return all
}

// cpu implements cpuGround.
func (k *kernel) cpu() usage {
	u := usage{at: time.Now(), self: cpuOf(os.Getpid())}
	for _, p := range k.all {
		u.nodes += p.used()
	}
	return u
}

// used is what the process has used, or had when it ended.
func (p *process) used() time.Duration {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	default:
		return cpuOf(p.cmd.Process.Pid)
	}
}

// cpuOf is what a process has used: fields 14 and 15 of its stat, in hundredths of a second. Of one that has ended: nothing.
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Close implements ground.
func (k *kernel) Close() error {
	for _, p := range k.all {
		p.Kill()
	}
	if k.forward != nil {
		k.forward.close()
	}
	var errs []error
	for _, s := range k.spaces {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// Freeze implements freezer.
func (p *process) Freeze(still bool) {
	sig := syscall.SIGCONT
	if still {
		sig = syscall.SIGSTOP
	}
	_ = p.cmd.Process.Signal(sig)
}
