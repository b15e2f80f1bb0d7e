package memnet

import "github.com/roamsync/roam/internal/raced"

func init() { raced.Bubbles() }
