package main

import "github.com/roamsync/roam/internal/app"

type resizeCmd struct{ app.ResizeOptions }

func (c *resizeCmd) Run(e env) error { return app.Resize(e.ctx, c.ResizeOptions, e.stdout) }

type leaveCmd struct{ app.LeaveOptions }

func (c *leaveCmd) Run(e env) error { return app.Leave(e.ctx, c.LeaveOptions, e.stdout) }
