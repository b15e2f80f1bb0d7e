package app

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are what sizes may be given in, in bytes.
var units = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

// parseReserve reads --disk-reserve: what has to stay free of a disk of so many bytes. "" is nil, for the default.
func parseReserve(s string) (func(total uint64) uint64, error) {
	if s == "" {
		return nil, nil
	}
	bad := fmt.Errorf("--disk-reserve %q: a size (512MiB, 5GiB), or a share of the disk (2%%) below 100%%", s)
	if share, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseFloat(share, 64)
		if err != nil || !(n >= 0 && n < 100) {
			return nil, bad
		}
		return func(total uint64) uint64 { return uint64(float64(total) * n / 100) }, nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if bytes := n * u.bytes; err == nil && bytes >= 0 && bytes < math.MaxInt64 {
			return func(uint64) uint64 { return uint64(bytes) }, nil
		}
		break
	}
	return nil, bad
}
