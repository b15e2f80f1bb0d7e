package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/roamsync/roam/internal/app"
)

type keygenCmd struct{ app.KeygenOptions }

func (c *keygenCmd) Run(e env) error { return app.Keygen(c.KeygenOptions, e.stdout) }

type certsCmd struct {
	CA   certsCACmd   `cmd:"" name:"ca" help:"Make a CA."`
	Node certsNodeCmd `cmd:"" help:"Make a node's certificate."`
}

type certsCACmd struct{ app.CertsCAOptions }

func (c *certsCACmd) Run(e env) error { return app.CertsCA(c.CertsCAOptions, time.Now(), e.stdout) }

type certsNodeCmd struct{ app.CertsNodeOptions }

func (c *certsNodeCmd) Run(e env) error {
	return app.CertsNode(c.CertsNodeOptions, time.Now(), e.stdout)
}

type tokenCmd struct{ app.TokenOptions }

func (c *tokenCmd) Run(e env) error { return app.Token(c.TokenOptions, time.Now(), e.stdout) }

type healthCmd struct{ app.HealthOptions }

func (c *healthCmd) Run(e env) error { return app.Health(e.ctx, c.HealthOptions, e.stdout) }

type backupCmd struct{ app.BackupOptions }

func (c *backupCmd) Run(e env) error { return app.Backup(e.ctx, c.BackupOptions, e.stdout, e.stderr) }

type restoreCmd struct{ app.RestoreOptions }

func (c *restoreCmd) Run(e env) error {
	return app.Restore(e.ctx, c.RestoreOptions, os.Stdin, e.stdout, e.stderr)
}

type recoverCmd struct{ app.RecoverOptions }

func (c *recoverCmd) Run(e env) error { return app.Recover(e.ctx, c.RecoverOptions, e.stdout) }

type exportCmd struct{ app.ExportOptions }

func (c *exportCmd) Run(e env) error { return app.Export(e.ctx, c.ExportOptions, e.stdout) }

type eraseCmd struct{ app.EraseOptions }

func (c *eraseCmd) Run(e env) error { return app.Erase(e.ctx, c.EraseOptions, e.stdout) }

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
