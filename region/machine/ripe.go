package machine

import "github.com/roamsync/roam/wire"

// ripeAhead is how many records are proposed whose causes are not here: they may be by the time the entry is applied.
const ripeAhead = 16

// Ripe is what of a long run of another origin's records is worth proposing now: not what is held already, and not much beyond the first whose
// causes are not here. Where two regions' ops depend on one another in turn, as after a cut, each proposal brings few of a run in, and
// would carry all of it otherwise. What does not fit the feed is left as it is, for Apply to judge.
func (m *Machine) Ripe(rs wire.Records) wire.Records {
	if len(rs.Records) <= ripeAhead {
		return rs
	}
	have, id := m.Cursors(rs.Partition).Clone(), rs.Origin.ID()
	cursor := have[id]
	at, known := m.Position(rs.Origin, rs.Partition, cursor)
	before, start := m.Position(rs.Origin, rs.Partition, rs.From-1)
	if !known || !start || rs.From > cursor+1 || cursor >= rs.Last() {
		return rs
	}
	cut := wire.Records{Origin: rs.Origin, Partition: rs.Partition, From: cursor + 1}
	hash, ahead := before.Hash, 0
	for i, b := range rs.Records {
		hash = hash.Next(b)
		f := rs.From + uint64(i)
		if f <= cursor {
			if f == cursor && hash != at.Hash {
				return rs
			}
			continue
		}
		rec, err := wire.DecodeRecord(b)
		if err != nil {
			return rs
		}
		if ahead > 0 || !have.Covers(rec.Deps) {
			if ahead++; ahead > ripeAhead {
				break
			}
		}
		have[id] = f
		cut.Records, cut.Hash = append(cut.Records, b), hash
	}
	return cut
}
