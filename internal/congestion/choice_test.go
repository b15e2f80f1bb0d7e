package congestion

import (
	"errors"
	"strings"
	"testing"
)

// TestChoose: a machine that lacks something of what Auto chooses from is used with what it has, and why is said.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name, own string
		has       string
		want      choice
		why       string
	}{
		{"", "bbr", "cubic bbr", choice{"", ""}, ""},
		{"reno", "bbr", "cubic bbr reno", choice{"reno", "reno"}, ""},
		{Auto, "cubic", "cubic bbr", choice{"cubic", "bbr"}, ""},
		{Auto, "bbr", "cubic bbr", choice{"cubic", "bbr"}, ""},
		{Auto, "cubic", "cubic reno", choice{"cubic", "cubic"}, "no bbr"},
		{Auto, "bbr", "reno bbr", choice{"bbr", "bbr"}, "no cubic"},
		{Auto, "reno", "reno bbr", choice{"reno", "bbr"}, "no cubic"},
		{Auto, "reno", "reno", choice{"reno", "reno"}, "no cubic\nno bbr"},
	} {
		got, why := choose(c.name, c.own, func(name string) error {
			if strings.Contains(c.has, name) {
				return nil
			}
			return errors.New("no " + name)
		})
		said := ""
		if why != nil {
			said = why.Error()
		}
		if got != c.want || said != c.why {
			t.Errorf("%q on a machine of %s with %s: %+v, %q", c.name, c.own, c.has, got, said)
		}
	}
}
