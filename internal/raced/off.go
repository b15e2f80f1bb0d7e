//go:build !race

package raced

// On says whether this binary was built with the race detector.
const On = false
