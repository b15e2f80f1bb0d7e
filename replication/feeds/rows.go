package feeds

import (
	"fmt"
	"math/bits"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/peerpb"
)

// Epoch is the incarnation under which the own region says what it holds of some partitions, a bit each, of one group; 0: none
// has begun. A region that was given up, and numbers nothing, still says it under the last that it had.
func Epoch(local Local, partitions uint64) uint64 {
	p := firstOf(partitions)
	if self := local.Self(p); self != "" {
		return self.Incarnation()
	}
	return local.Evictions(p)[local.Home()].Bound
}

// RowsOf are some partitions, a bit each, of a region's row for an origin, as messages: one for each epoch that they are of.
func RowsOf(region string, epochs *Row, id crdt.OriginID, r *Row, parts uint64) (all []*peerpb.Row) {
	for parts != 0 {
		epoch := epochs[bits.TrailingZeros64(parts)]
		m := &peerpb.Row{Region: region, Origin: uint32(id), Epoch: epoch}
		for rest := parts; rest != 0; rest &= rest - 1 {
			if p := bits.TrailingZeros64(rest); epochs[p] == epoch {
				m.Parts |= 1 << p
				m.F = append(m.F, r[p])
			}
		}
		parts &^= m.Parts
		all = append(all, m)
	}
	return all
}

// Cells visits the cursors of a row. One that is not well formed has none.
func Cells(m *peerpb.Row, visit func(p uint8, f uint64)) error {
	parts := m.Parts
	if parts == 0 {
		parts = All
	}
	if !crdt.ValidRegion(m.Region) || len(m.F) > bits.OnesCount64(parts) || m.Parts != 0 && len(m.F) < bits.OnesCount64(parts) {
		return fmt.Errorf("%w: row of %q", ErrMessage, m.Region)
	}
	if err := CheckEpochs(m.Epoch); err != nil {
		return err
	}
	for _, f := range m.F {
		visit(uint8(bits.TrailingZeros64(parts)), f)
		parts &= parts - 1
	}
	return nil
}

// Hear takes a row, and reports whether any cursor grew.
func (m *Matrix) Hear(row *peerpb.Row) (grew bool, err error) {
	err = Cells(row, func(p uint8, f uint64) {
		grew = m.Ack(row.Region, row.Epoch, crdt.OriginID(row.Origin), p, f) || grew
	})
	return grew, err
}
