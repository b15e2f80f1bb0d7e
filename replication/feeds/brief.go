package feeds

import "github.com/roamsync/roam/wire/peerpb"

// Shorten leaves out the ids of origins that are those of the records before.
func Shorten(all []*peerpb.Records) {
	last := uint32(0)
	for _, r := range all {
		if r.Id == last {
			r.Id = 0
		} else {
			last = r.Id
		}
	}
}

// Lengthen is the inverse of Shorten.
func Lengthen(all []*peerpb.Records) {
	last := uint32(0)
	for _, r := range all {
		if r.Id == 0 {
			r.Id = last
		}
		last = r.Id
	}
}

// AcksOnly reports whether a message acknowledges, and does nothing else.
func AcksOnly(w *peerpb.Want) bool {
	return len(w.Ack) > 0 && len(w.Subscribe) == 0 && len(w.Pull) == 0 && w.First == nil
}

// JoinAcks adds the acknowledgements of one message to another. A cursor that is acknowledged again replaces the one before.
func JoinAcks(to, from *peerpb.Want) {
	if from.Epoch != 0 {
		to.Epoch = from.Epoch
	}
next:
	for _, a := range from.Ack {
		for _, o := range to.Ack {
			if o.Origin == a.Origin && o.Id == a.Id && o.Partition == a.Partition {
				o.F = a.F
				continue next
			}
		}
		to.Ack = append(to.Ack, a)
	}
}
