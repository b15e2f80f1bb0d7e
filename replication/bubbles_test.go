package replication

import "github.com/roamsync/roam/internal/raced"

func init() { raced.Bubbles() }
