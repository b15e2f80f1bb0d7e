//go:build !linux

package app

import (
	"errors"
	"syscall"
)

func setCongestion(syscall.RawConn, string) error {
	return errors.New("--peer-congestion: only on Linux")
}
