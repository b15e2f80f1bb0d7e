package sim

import "slices"

// Shrink returns a plan that breaks the same promise with fewer faults and acts, as far as a number of runs can find one. run
// is Run, or what stands for it.
func Shrink(p *Plan, broken string, runs int, run func(*Plan) *Violation) *Plan {
	s := &shrinking{best: p, broken: broken, runs: runs, run: run}
	for before := -1; before != s.size() && s.runs > 0; {
		before = s.size()
		s.cut(func(p *Plan) int { return len(p.Faults) }, func(p *Plan, from, to int) { p.Faults = slices.Delete(slices.Clone(p.Faults), from, to) })
		s.cut(func(p *Plan) int { return len(p.Acts) }, func(p *Plan, from, to int) { p.Acts = slices.Delete(slices.Clone(p.Acts), from, to) })
	}
	return s.best
}

type shrinking struct {
	best   *Plan
	broken string
	runs   int // that are left
	run    func(*Plan) *Violation
}

func (s *shrinking) size() int { return len(s.best.Faults) + len(s.best.Acts) }

// cut leaves out parts of a list, first large ones.
func (s *shrinking) cut(count func(*Plan) int, drop func(p *Plan, from, to int)) {
	for part := max(count(s.best)/2, 1); ; part /= 2 {
		for from := 0; from < count(s.best) && s.runs > 0; {
			smaller := *s.best
			drop(&smaller, from, min(from+part, count(s.best)))
			s.runs--
			if v := s.run(&smaller); v != nil && v.Invariant == s.broken {
				s.best = &smaller
			} else {
				from += part
			}
		}
		if part <= 1 || s.runs <= 0 {
			return
		}
	}
}
