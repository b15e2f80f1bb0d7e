//go:build !linux

package congestion

import (
	"errors"
	"syscall"
)

var errLinux = errors.New("only on Linux")

func usable(string) error { return errLinux }

func ownName() (string, error) { return "", errLinux }

func setName(syscall.RawConn, string) error { return errLinux }

func measure(syscall.RawConn) (string, counts, error) { return "", counts{}, errLinux }
