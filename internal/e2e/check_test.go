package e2e

import "github.com/roamsync/roam/internal/check"

// What the checker has is called by short names here.
type (
	frame = check.Frame
	item  = check.Item
	view  = check.View
)

// obj is a frame or an op that is sent.
type obj map[string]any
