package llm_test

import "github.com/roamsync/roam/internal/raced"

func init() { raced.Bubbles() }
