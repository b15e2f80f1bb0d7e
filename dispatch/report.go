package dispatch

import (
	"encoding/json"
	"fmt"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/internal/stream"
	"github.com/roamsync/roam/wire/workpb"
)

// Bounds of what a worker may say, in bytes. A report beyond them is malformed.
const (
	maxName  = 256 // session, run, nonce, model
	maxPiece = 64 << 10
	maxUsage = 4 << 10
	maxErr   = 1 << 10
)

// op turns a report into what is committed. It makes a new op each time: committing completes it in place.
func op(r *workpb.Report) (*crdt.Op, error) {
	if r.Session == "" || r.Run == "" || r.Nonce == "" || max(len(r.Session), len(r.Run), len(r.Nonce)) > maxName {
		return nil, fmt.Errorf("%w: a name is missing or too long", stream.ErrMalformed)
	}
	o := &crdt.Op{Session: r.Session, Run: r.Run, Nonce: r.Nonce, Trace: traceOf(r)}
	switch what := r.What.(type) {
	case *workpb.Report_Begin:
		o.Kind, o.Model = crdt.KindBegin, what.Begin.GetModel()
	case *workpb.Report_Chunk:
		o.Kind, o.Off, o.Text = crdt.KindChunk, what.Chunk.GetOff(), what.Chunk.GetText()
	case *workpb.Report_Done:
		return o, done(o, what.Done)
	default:
		return nil, fmt.Errorf("%w: it says nothing", stream.ErrMalformed)
	}
	if len(o.Model) > maxName || len(o.Text) > maxPiece {
		return nil, fmt.Errorf("%w: too long", stream.ErrMalformed)
	}
	return o, nil
}

func done(o *crdt.Op, d *workpb.Done) error {
	o.Kind, o.State, o.Off = crdt.KindDone, crdt.RunDone, d.GetLen()
	o.Fin, o.Usage, o.Err = d.GetFin(), json.RawMessage(d.GetUsage()), d.GetErr()
	switch {
	case d.GetFailed():
		o.State, o.Fin = crdt.RunFailed, "error"
	case o.Fin != "end" && o.Fin != "length" && o.Fin != "filter" && o.Fin != "tool":
		return fmt.Errorf("%w: fin %.20q", stream.ErrMalformed, o.Fin)
	}
	if len(o.Usage) > maxUsage || len(o.Err) > maxErr {
		return fmt.Errorf("%w: too long", stream.ErrMalformed)
	}
	if len(o.Usage) > 0 && !json.Valid(o.Usage) {
		return fmt.Errorf("%w: usage is not JSON", stream.ErrMalformed)
	}
	return nil
}
