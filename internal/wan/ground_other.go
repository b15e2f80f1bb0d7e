//go:build !linux

package wan

import "errors"

var errLinux = errors.New("network namespaces are Linux's")

func unable() error { return errLinux }

func newKernel(string, string, []string, int, uint64) (ground, error) { return nil, errLinux }

func sweep() ([]string, error) { return nil, nil }

func nodeHost(region, node int) string { return memoryHost(region, node) }
