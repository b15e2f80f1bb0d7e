package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	list := nodesOf(t, "beijing", 3)
	must(t, startNodes(list))
	d := &diary{}
	how := talks{clients: 60, rest: 100 * time.Millisecond, within: time.Second, diary: d}
	end := crowd(t, "hana", list, how)
	time.Sleep(time.Second)
	for i, f := range strings.Split(os.Getenv("ZZ"), ",") {
		var freeze time.Duration
		lead, err := leaderOf(list)
		must(t, err)
		var rest []*site
		for _, s := range list {
			if s != lead {
				rest = append(rest, s)
			}
		}
		for j, p := range strings.Split(f, "+") {
			freeze, _ = time.ParseDuration(p)
			rest[0].freeze()
			d.note("round %d.%d freeze %s (%s leads) %v", i, j, rest[0].node, lead.node, freeze)
			time.Sleep(freeze)
			rest[0].thaw()
			d.note("thaw")
			time.Sleep(15 * time.Millisecond)
		}
		rest[1].crash()
		d.note("kill %s", rest[1].node)
		time.Sleep(time.Second)
		must(t, rest[1].restart())
		must(t, wholeAgain(list))
		time.Sleep(2*time.Second)
	}
	end(nil)
	f, _ := os.Create("/tmp/w/steady-zz.log")
	for _, s := range list {
		for _, p := range s.processes() {
			for l := range strings.Lines(p.errout.all()) {
				fmt.Fprintln(f, s.node, strings.TrimSpace(l))
			}
		}
	}
	f.Close()
}
