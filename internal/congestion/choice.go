package congestion

import (
	"errors"
	"fmt"
)

// Auto is the name that has each connection use what suits it.
const Auto = "auto"

// What Auto chooses from.
const (
	forClean = "cubic"
	forLossy = "bbr"
)

// choice is which congestion control connections use; "" is the machine's own.
type choice struct{ clean, lossy string }

// switches reports whether connections change it while they live.
func (c choice) switches() bool { return c.clean != c.lossy }

// choose is the choice of a machine whose own is own, and on which may reports why a name cannot be used. why is what Auto lacks there.
func choose(name, own string, may func(name string) error) (c choice, why error) {
	if name != Auto {
		return choice{name, name}, nil
	}
	c = choice{forClean, forLossy}
	if err := may(forClean); err != nil {
		c.clean, why = own, err
	}
	if err := may(forLossy); err != nil {
		c.lossy, why = c.clean, errors.Join(why, err)
	}
	return c, why
}

// Check reports why connections cannot use what a flag names.
func Check(name string) error {
	var err error
	switch name {
	case "":
		return nil
	case Auto:
		_, err = ownName() // which all machines have where there are any to choose from
	default:
		err = usable(name)
	}
	if err != nil {
		return fmt.Errorf("--peer-congestion %s: %w", name, err)
	}
	return nil
}
