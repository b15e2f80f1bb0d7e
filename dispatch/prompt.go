package dispatch

import (
	"encoding/json"
	"slices"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire/workpb"
)

// Bounds of what a job carries besides the question: what is beyond them is left out, the oldest first.
const (
	maxContextEntries = 200
	maxContextBytes   = 256 << 10
	maxSettingsBytes  = 64 << 10
)

// jobMessage builds the job for an answer from its session.
func jobMessage(st crdt.Store, session string, s *crdt.Slot) *workpb.Job {
	j := &workpb.Job{
		Session: session, Run: s.OID, Question: s.Of, Model: s.Asked, Settings: settings(st),
	}
	if q, ok := crdt.View(st, s.Of); ok && q.Msg != nil {
		j.Prompt = q.Msg.Text
		j.Messages = conversation(st, q, askedModel(s.Asked, j.Settings))
	}
	return j
}

// askedModel is the model that an answer is asked of; without one it is the session's, which workers that serve it take.
func askedModel(asked string, settings map[string][]byte) string {
	if asked == "" {
		_ = json.Unmarshal(settings["model"], &asked) // what is no text names no model
	}
	return asked
}

// conversation returns the log up to a question and with it, oldest first. What does not fit is left out from the
// oldest on; the question is always there.
func conversation(st crdt.Store, q *crdt.Entry, model string) []*workpb.Message {
	log, _ := crdt.Page(st, q.Seq+1, maxContextEntries)
	log = slices.DeleteFunc(log, func(e *crdt.Entry) bool { return e.Place.Compare(q.Place) > 0 })
	answers := shownAnswers(log, model)
	gone := map[string]bool{}
	for _, e := range log {
		gone[e.OID] = e.Msg != nil && e.Msg.Deleted
	}
	var turns []*workpb.Message
	room := maxContextBytes
	for _, e := range slices.Backward(log) {
		if e.Run != nil && (answers[e.Run.Of] != e || gone[e.Run.Of]) {
			continue
		}
		m := turn(e)
		if m == nil {
			continue
		}
		if room -= len(m.Text) + len(m.Parts); room < 0 && e.OID != q.OID {
			break
		}
		turns = append(turns, m)
	}
	slices.Reverse(turns)
	return turns
}

// shownAnswers picks one closed answer to each question. An answer that failed is not picked if another did not; then
// the model that is asked now has the preference, with its last answer: the user had it made again. Of other models it
// is the first.
func shownAnswers(log []*crdt.Entry, model string) map[string]*crdt.Entry {
	picked := map[string]*crdt.Entry{}
	for _, e := range log {
		if e.Run == nil || !e.Run.State.Closed() {
			continue
		}
		if had := picked[e.Run.Of]; had == nil || betterAnswer(e.Run, had.Run, model) {
			picked[e.Run.Of] = e
		}
	}
	return picked
}

// betterAnswer reports whether an answer is picked rather than one that stands before it.
func betterAnswer(later, earlier *crdt.Run, model string) bool {
	if failed := later.State == crdt.RunFailed; failed != (earlier.State == crdt.RunFailed) {
		return !failed
	}
	return later.Model == model
}

// turn is an entry as a model reads it; nil if there is nothing to read.
func turn(e *crdt.Entry) *workpb.Message {
	switch {
	case e.Run != nil && e.Run.Text != nil && *e.Run.Text != "":
		return &workpb.Message{Oid: e.OID, Role: "assistant", Text: *e.Run.Text}
	case e.Msg != nil && !e.Msg.Deleted && (e.Msg.Text != "" || len(e.Msg.Parts) > 0):
		role := e.Msg.Role
		if role == "" {
			role = "user"
		}
		return &workpb.Message{Oid: e.OID, Role: role, Text: e.Msg.Text, Parts: e.Msg.Parts}
	}
	return nil
}

func settings(st crdt.Store) map[string][]byte {
	all, room := map[string][]byte{}, maxSettingsBytes
	for _, op := range crdt.Map(st) {
		if n := len(op.Key) + len(op.Value); n <= room {
			all[op.Key] = op.Value
			room -= n
		}
	}
	return all
}
