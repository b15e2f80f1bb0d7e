package wan

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// rigNice is the niceness of the rig's threads. Clients and wires are elsewhere than the regions that they are measured with, and do not wait for a
// processor because a region computes. What they use is missing to the regions all the same.
const rigNice = -15

// beFirst gives the rig's threads, and those that they begin, that niceness. Where that is not permitted, Count.Late and the messages that were sent
// late tell what comes of it.
func beFirst() {
	all, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range all {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, rigNice)
		}
	}
}

// beLast has what the calling thread starts be like any other process.
func beLast() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0) }
