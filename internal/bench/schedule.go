package bench

import (
	"math/rand/v2"
	"time"
)

// schedule says when one connection is to send what. It depends on nothing but its seed.
type schedule struct {
	rnd      *rand.Rand
	gap      time.Duration // mean
	constant bool
	mix      Mix
	at       time.Duration
}

// newSchedule is that of connection i of n, which together send at rate a second.
func newSchedule(c *Config, i int) *schedule {
	s := &schedule{
		rnd: rand.New(rand.NewPCG(c.Seed, uint64(i))), constant: c.Constant, mix: c.Mix,
		gap: time.Duration(float64(c.Connections) / c.Rate * float64(time.Second)),
	}
	if s.constant {
		s.at = time.Duration(s.rnd.Float64() * float64(s.gap)) // connections do not send in step
	} else {
		s.at = time.Duration(s.rnd.ExpFloat64() * float64(s.gap))
	}
	return s
}

// next is the time of the next op, since the start of the run, and its kind.
func (s *schedule) next() (time.Duration, kind) {
	at := s.at
	if s.constant {
		s.at += s.gap
	} else {
		s.at += time.Duration(s.rnd.ExpFloat64() * float64(s.gap))
	}
	dice := s.rnd.IntN(100)
	for k, share := range s.mix {
		if dice -= share; dice < 0 {
			return at, kind(k)
		}
	}
	return at, kindPut
}
