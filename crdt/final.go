package crdt

// Finals says of a partition which origins are closed, and the last f that each has given there, 0 for none: nobody numbers under a closed
// origin any more, and what is above its final f is nowhere. An absent origin is open.
//
// Two regions may close an origin at the same time, and one of them may have known less. So the join is the greater f per origin: it is
// commutative, associative and idempotent, and a final f only ever rises to what some living region holds.
type Finals map[OriginID]uint64

// Join takes in what another region has closed.
func (f Finals) Join(o Finals) {
	for id, last := range o {
		f[id] = max(f[id], last)
	}
}

// Clone returns a copy that shares nothing; never nil.
func (f Finals) Clone() Finals {
	c := make(Finals, len(f))
	c.Join(f)
	return c
}

// Admits reports whether an op may be taken in under a number.
func (f Finals) Admits(id OriginID, at uint64) bool {
	last, closed := f[id]
	return !closed || at <= last
}

// Clamp returns of a vector what there is: of closed origins no more than the final f. lost reports that it had named more.
func (f Finals) Clamp(v Vector) (within Vector, lost bool) {
	for id, at := range v {
		if f.Admits(id, at) {
			continue
		}
		if !lost {
			lost, v = true, v.Clone()
		}
		if v[id] = f[id]; f[id] == 0 {
			delete(v, id)
		}
	}
	return v, lost
}

// Eviction says that a region is given up: nothing waits for it, and what it numbered up to an incarnation is closed. It counts again
// once it has begun a later one. The zero value says nothing of the kind.
type Eviction struct {
	Bound uint64 // the last incarnation that is given up
	Back  uint64 // the one under which the region came back; 0: it has not
}

// Join is the greater of both, field by field: commutative, associative and idempotent.
func (e Eviction) Join(o Eviction) Eviction {
	return Eviction{max(e.Bound, o.Bound), max(e.Back, o.Back)}
}

// Evictions are the regions that were ever evicted, by name.
type Evictions map[string]Eviction

// Out reports whether a region is evicted, and has not come back since.
func (e Evictions) Out(region string) bool {
	v, ok := e[region]
	return ok && v.Back <= v.Bound
}

// Void reports whether an incarnation of a region was given up.
func (e Evictions) Void(region string, incarnation uint64) bool {
	v, ok := e[region]
	return ok && incarnation <= v.Bound
}
