package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/region/salvage"
	"github.com/roamsync/roam/wire"
)

// The questions and orders of `roam region salvage`, each answered by the node that leads the partition.
const (
	salvageHeld   = "/v1/salvage/held"
	salvageErased = "/v1/salvage/erased"
	salvageExpect = "/v1/salvage/expect"
	salvageTake   = "/v1/salvage/take"
	// maxSalvage bounds the body of one, and of its answer.
	maxSalvage = 16 << 20
)

type (
	heldAsked struct {
		Partition uint8          `json:"partition"`
		At        []salvage.Mark `json:"at"`
	}
	erasedAsked struct {
		Partition uint8    `json:"partition"`
		Sessions  []string `json:"sessions"`
	}
	expected struct {
		Partition uint8        `json:"partition"`
		Ends      []wire.Final `json:"ends"`
	}
	takenIn struct {
		Partition uint8       `json:"partition"`
		Origin    crdt.Origin `json:"origin"`
		From      uint64      `json:"from"`
		Records   [][]byte    `json:"records"`
		Hash      []byte      `json:"hash"`
	}
	took struct {
		Cursor uint64 `json:"cursor"`
		Known  uint64 `json:"known"`
	}
)

// salvaging answers who has found a disk.
func (n *node) salvaging(mux *http.ServeMux) {
	mux.HandleFunc("POST "+salvageHeld, salvages(n, func(_ context.Context, q heldAsked) (any, error) { return n.heldOf(q) }))
	mux.HandleFunc("POST "+salvageErased, salvages(n, func(_ context.Context, q erasedAsked) (any, error) { return n.erasedOf(q) }))
	mux.HandleFunc("POST "+salvageExpect, salvages(n, func(ctx context.Context, q expected) (any, error) { return struct{}{}, n.expect(ctx, q) }))
	mux.HandleFunc("POST "+salvageTake, salvages(n, func(ctx context.Context, q takenIn) (any, error) { return n.takeIn(ctx, q) }))
}

func (q heldAsked) of() uint8   { return q.Partition }
func (q erasedAsked) of() uint8 { return q.Partition }
func (q expected) of() uint8    { return q.Partition }
func (q takenIn) of() uint8     { return q.Partition }

// salvages answers one of them. A node that does not lead the partition says who does.
func salvages[Q interface{ of() uint8 }](n *node, do func(context.Context, Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, done, ok := n.region.Hold(r.Context())
		if !ok {
			http.Error(w, "this node is stopping", http.StatusServiceUnavailable)
			return
		}
		defer done()
		var q Q
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSalvage)).Decode(&q); err != nil {
			http.Error(w, "not what roam region salvage sends: "+err.Error(), http.StatusBadRequest)
			return
		}
		p := q.of()
		switch {
		case p >= crdt.Partitions:
			http.Error(w, fmt.Sprintf("partition %d: there are %d", p, crdt.Partitions), http.StatusBadRequest)
			return
		case n.region.Led()&(1<<p) == 0:
			http.Error(w, fmt.Sprintf("this node does not lead partition %d", p), http.StatusMisdirectedRequest)
			return
		case n.region.Self(p) == "":
			http.Error(w, "this region numbers nothing now: it was evicted, and has not begun anew", http.StatusConflict)
			return
		}
		said, err := do(ctx, q)
		if err != nil {
			answer(w, "", err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(said); err != nil {
			n.log.Debug("an answer about a disk was not sent", "err", err)
		}
	}
}

// heldOf says how far the region has feeds.
func (n *node) heldOf(q heldAsked) (all []salvage.Held, err error) {
	for _, m := range q.At {
		if _, err := crdt.ParseOrigin(string(m.Origin)); err != nil {
			return nil, err
		}
		id := m.Origin.ID()
		h := salvage.Held{Cursor: n.region.Cursors(q.Partition)[id]}
		h.F = min(m.F, h.Cursor)
		if pos, ok := n.region.Position(m.Origin, q.Partition, h.F); ok {
			h.Hash = pos.Hash[:]
		}
		_, closed := n.region.Finals(q.Partition)[id]
		h.Elsewhere = !closed && n.links.Numbers(m.Origin, q.Partition)
		all = append(all, h)
	}
	return all, nil
}

// erasedOf says when sessions were erased by an operator.
func (n *node) erasedOf(q erasedAsked) (map[string]crdt.Stamp, error) {
	all := map[string]crdt.Stamp{}
	for _, session := range q.Sessions {
		if err := n.region.View(session, func(st crdt.Store) {
			if at := crdt.Forgotten(st, eraseOID); at > 0 {
				all[session] = at
			}
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// expect notes where the origins end that ops of a disk will go under.
func (n *node) expect(ctx context.Context, q expected) error {
	for _, e := range q.Ends {
		if _, err := crdt.ParseOrigin(string(e.Origin)); err != nil || e.Partition != q.Partition {
			return errors.Join(err, fmt.Errorf("the end of %q in partition %d", e.Origin, e.Partition))
		}
		n.log.Warn("ops of a disk that was found are taken in", "partition", e.Partition, "as", e.Origin, "ops", e.F)
	}
	return n.region.CloseOrigins(ctx, q.Ends)
}

// takeIn commits ops of a disk as far as their causes are here.
func (n *node) takeIn(ctx context.Context, q takenIn) (t took, err error) {
	rs := wire.Records{Origin: q.Origin, Partition: q.Partition, From: q.From, Records: q.Records}
	if _, err := crdt.ParseOrigin(string(q.Origin)); err != nil || len(q.Hash) != len(rs.Hash) {
		return t, errors.Join(err, fmt.Errorf("records of %q with a hash of %d bytes", q.Origin, len(q.Hash)))
	}
	rs.Hash = wire.Hash(q.Hash)
	was := n.region.Cursors(q.Partition)[q.Origin.ID()]
	known, err := n.knownOf(rs)
	if err != nil {
		return t, err
	}
	if t.Cursor, err = n.region.Ingest(ctx, rs); err != nil {
		return t, err
	}
	for i, is := range known {
		if f := rs.From + uint64(i); is && f > was && f <= t.Cursor {
			t.Known++
		}
	}
	return t, nil
}

// knownOf says of each record whether its op is known by its oid.
func (n *node) knownOf(rs wire.Records) ([]bool, error) {
	known := make([]bool, len(rs.Records))
	for i, b := range rs.Records {
		rec, err := wire.DecodeRecord(b)
		if err != nil {
			return nil, err
		}
		op, err := crdt.DecodeOp(rec.Op)
		if err != nil {
			return nil, err
		}
		if op.OID == "" {
			continue
		}
		if err := n.region.View(op.Session, func(st crdt.Store) { _, known[i] = crdt.Lookup(st, op.OID) }); err != nil {
			return nil, err
		}
	}
	return known, nil
}
