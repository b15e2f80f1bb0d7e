package main

import (
	"os"
	"path/filepath"

	"github.com/roamsync/roam/internal/chat"
)

type chatCmd struct{ chat.Options }

func (c *chatCmd) Run(e env) error {
	if c.StateDir == "" {
		c.StateDir = stateDir()
	}
	return chat.Run(e.ctx, c.Options, os.Stdin, e.stdout, e.stderr)
}

// stateDir is where a user's programs keep what is to outlive them; empty if there is no such place.
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "roam")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "roam")
}
