package main

import (
	"fmt"
	"io"
	"time"

	"github.com/roamsync/roam/internal/app"
)

type tokenCmd struct{ app.TokenOptions }

func (c *tokenCmd) Run(e env) error { return app.Token(c.TokenOptions, time.Now(), e.stdout) }

type healthCmd struct{ app.HealthOptions }

func (c *healthCmd) Run(e env) error { return app.Health(e.ctx, c.HealthOptions, e.stdout) }

// check is --check: what a command would refuse before it starts.
func check(cmd any, stdout, stderr io.Writer) int {
	c, ok := cmd.(interface{ Check() error })
	if !ok {
		fmt.Fprintln(stderr, "roam: --check is for serve and worker")
		return usageStatus
	}
	if err := c.Check(); err != nil {
		fmt.Fprintf(stderr, "roam: %v\n", err)
		return 1
	}
	fmt.Fprintln(stdout, "ok")
	return 0
}
