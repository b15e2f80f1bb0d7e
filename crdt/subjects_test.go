package crdt

import (
	"cmp"
	"fmt"

	"pgregory.net/rapid"
)

var logOfMessages = subject{
	ops:  func(t *rapid.T, _ *replica) Op { return say(t) },
	want: func(o oracle) string { return lines(o.log()) },
	got:  shownLines,
}

// registersOfMap are few keys, written under so few oids that copies of one op are for different keys.
var registersOfMap = subject{
	ops: func(t *rapid.T, r *replica) Op {
		op := Op{Kind: KindSet, OID: fmt.Sprint("k", number(t, "oid", 5)), User: "u", Key: pick(t, "key", "title", "model")}
		if n := number(t, "value", 4); n > 0 {
			op.Value = fmt.Append(nil, n)
		}
		return op
	},
	want: func(o oracle) string {
		var set []string
		for _, key := range []string{"model", "title"} {
			if top := o.greatest(func(op *Op) bool { return op.Kind == KindSet && op.Key == key }); top != nil && len(top.Value) > 0 {
				set = append(set, fmt.Sprintf("%s = %s at %d", key, top.Value, top.Stamp))
			}
		}
		return lines(set)
	},
	got: func(st Store) string {
		var set []string
		for _, m := range Map(st) {
			set = append(set, fmt.Sprintf("%s = %s at %d", m.Key, m.Value, m.Version.Stamp))
		}
		return lines(set)
	},
}

// editsOfMessages may come before their message, and copies of one may be for different messages.
var editsOfMessages = subject{
	ops: func(t *rapid.T, _ *replica) Op {
		n, of := number(t, "oid", 4), fmt.Sprint("m", number(t, "of", 4))
		switch number(t, "kind", 4) {
		case 0:
			return Op{Kind: KindDel, OID: fmt.Sprint("d", n), User: "u", Of: of}
		case 1, 2:
			return Op{Kind: KindEdit, OID: fmt.Sprint("e", n), User: "u", Of: of, Text: fmt.Sprint("edit ", n)}
		}
		return say(t)
	},
	want: func(o oracle) string { return lines(o.log()) },
	got:  shownLines,
}

var reactionsToMessages = subject{
	ops: func(t *rapid.T, _ *replica) Op {
		if number(t, "kind", 3) == 0 {
			return say(t)
		}
		return Op{
			Kind: KindReact, OID: fmt.Sprint("x", number(t, "oid", 9)), User: pick(t, "user", "u", "v"),
			Of: fmt.Sprint("m", number(t, "of", 3)), Key: pick(t, "reaction", "+1", "-1"), On: rapid.Bool().Draw(t, "on"),
		}
	},
	want: func(o oracle) string {
		var all []string
		for _, rec := range o.standing() {
			if rec.op.Kind != KindMsg {
				continue
			}
			for _, key := range []string{"+1", "-1"} {
				for _, user := range []string{"u", "v"} {
					top := o.greatest(func(e *Op) bool {
						return e.Kind == KindReact && e.Of == rec.op.OID && e.Key == key && e.User == user
					})
					if top != nil && top.On {
						all = append(all, rec.op.OID+" "+key+" "+user)
					}
				}
			}
		}
		return lines(all)
	},
	got: func(st Store) string {
		var all []string
		log, _ := Page(st, 0, 1000)
		for _, e := range log {
			for key, users := range e.Msg.React {
				for _, user := range users {
					all = append(all, e.OID+" "+key+" "+user)
				}
			}
		}
		return lines(all)
	},
}

var readMarks = subject{
	ops: func(t *rapid.T, _ *replica) Op {
		if number(t, "kind", 3) == 0 {
			return say(t)
		}
		return Op{
			Kind: KindRead, OID: fmt.Sprint("q", number(t, "oid", 9)), User: pick(t, "user", "u", "v"), ReadSeq: uint64(number(t, "seq", 8)),
		}
	},
	want: func(o oracle) string {
		marks := map[string]uint64{}
		for _, rec := range o.recs {
			if rec.op.Kind == KindRead {
				marks[rec.op.User] = max(marks[rec.op.User], rec.op.Seq)
			}
		}
		return fmt.Sprint(marks)
	},
	got: func(st Store) string { return fmt.Sprint(Read(st)) },
}

func ask(t *rapid.T) Op {
	if number(t, "again", 3) == 0 {
		of := fmt.Sprint("m", number(t, "of", 4))
		return Op{Kind: KindRun, OID: "r" + of, Of: of, Model: "echo", User: "u"}
	}
	op := say(t, []string{"echo", "other"}[:1+number(t, "models", 2)]...)
	op.Busy = pick(t, "busy", BusyQueue, BusyQueue, BusyInterrupt)
	return op
}

// answerSlots show the greatest attempt, its pieces and its end, and where the question's smallest copy stands.
var answerSlots = subject{
	answers: true,
	ops:     func(t *rapid.T, _ *replica) Op { return ask(t) },
	want:    func(o oracle) string { return lines(o.log()) },
	got:     shownLines,
}

// stopFlags stand as soon as anybody asked, whatever became of the answer.
var stopFlags = subject{
	answers: true,
	ops: func(t *rapid.T, _ *replica) Op {
		if number(t, "kind", 2) == 0 {
			return Op{Kind: KindStop, OID: fmt.Sprint("s", number(t, "oid", 6)), User: "u"}
		}
		return ask(t)
	},
	want: func(o oracle) string {
		flags := map[string]string{}
		for _, rec := range o.recs {
			for _, seed := range rec.op.slots() {
				flags[seed.oid] = cmp.Or(flags[seed.oid], "-")
			}
		}
		for _, rec := range o.recs {
			for _, run := range rec.op.Runs {
				if rec.op.Kind == KindStop {
					flags[run] = "stopped"
				} else if flags[run] == "-" {
					flags[run] = "interrupted"
				}
			}
		}
		return fmt.Sprint(flags)
	},
	got: func(st Store) string {
		flags := map[string]string{}
		scanClass(st, classSlot, func(run string, _, _ []byte) {
			s, _ := ReadSlot(st, run)
			flags[run] = cmp.Or(s.StopFin(), "-")
		})
		return fmt.Sprint(flags)
	},
}

// anything puts ops of all kinds under a handful of oids: regions that are apart take in different ops under one, as no
// honest client would have them.
func anything(t *rapid.T, _ *replica) Op {
	oid, of := fmt.Sprint("m", number(t, "oid", 3)), fmt.Sprint("m", number(t, "of", 3))
	op := Op{Kind: pick(t, "kind", KindMsg, KindMsg, KindRun, KindStop, KindSet, KindEdit, KindDel, KindReact, KindRead), OID: oid, User: "u"}
	switch op.Kind {
	case KindMsg:
		op.Text, op.Models = "text", []string{"echo"}[:number(t, "models", 2)]
	case KindRun:
		op.Of, op.Model = of, "echo"
	case KindSet:
		op.Key, op.Value = pick(t, "key", "title", "model"), []byte("1")
	case KindEdit, KindDel:
		op.Of = of
	case KindReact:
		op.Of, op.Key, op.On = of, "+1", true
	case KindRead:
		op.ReadSeq = uint64(number(t, "seq", 5))
	}
	return op
}

// identities say of each oid which copy stands, and its dot.
var identities = subject{
	answers: true,
	ops:     anything,
	want: func(o oracle) string {
		var all []string
		for _, rec := range o.standing() {
			all = append(all, fmt.Sprintf("%s %s %d.%d at %d", rec.op.OID, rec.op.Kind, rec.dot.ID, rec.dot.F, rec.op.Stamp))
		}
		return lines(all)
	},
	got: func(st Store) string {
		var all []string
		scanClass(st, classIdentity, func(oid string, _, _ []byte) {
			id, _ := Lookup(st, oid)
			all = append(all, fmt.Sprintf("%s %s %d.%d at %d", oid, id.Kind, id.By, id.F, id.Stamp))
		})
		return lines(all)
	},
}

// headers are the greatest and smallest of what was taken in.
var headers = subject{
	answers: true,
	ops:     anything,
	want: func(o oracle) string {
		if len(o.recs) == 0 {
			return fmt.Sprint(Header{Seen: Vector{}, Cut: Vector{}})
		}
		h := Header{Seen: Vector{}, Cut: Vector{}, Created: 1 << 62}
		for _, rec := range o.recs {
			for _, seed := range rec.op.slots() {
				h.MaxSeq = max(h.MaxSeq, seed.seq)
			}
			if rec.op.Kind == KindMsg {
				h.MaxSeq = max(h.MaxSeq, rec.op.Seq)
			}
			h.MaxStamp, h.Seen[rec.dot.ID] = max(h.MaxStamp, rec.op.Stamp), max(h.Seen[rec.dot.ID], rec.dot.F)
			h.Marked = h.Marked || rec.op.Kind == KindEdit || rec.op.Kind == KindDel || rec.op.Kind == KindReact
			h.Created, h.Last = min(h.Created, rec.op.TS), max(h.Last, rec.op.TS)
		}
		return fmt.Sprint(h)
	},
	got: func(st Store) string { return fmt.Sprint(ReadHeader(st)) },
}

// removals are what is left of each op: which copy stands, whether it was removed, and the answers whose question was not.
var removals = subject{
	answers: true,
	trims:   true,
	ops: func(t *rapid.T, r *replica) Op {
		if number(t, "forget", 6) == 0 {
			return Op{Kind: KindForget, OID: pick(t, "forgets", "f0", "f1", "m0", "m1"), User: "u"}
		}
		return anything(t, r)
	},
	want: func(o oracle) string {
		var all []string
		gone, runs := o.gone(), map[string]bool{}
		for _, rec := range o.smallest() {
			all = append(all, fmt.Sprintf("%s %s %d.%d, removed: %t", rec.op.OID, rec.op.Kind, rec.dot.ID, rec.dot.F, gone[rec.op.OID]))
		}
		for _, rec := range o.recs {
			for _, seed := range rec.op.slots() {
				if !runs[seed.oid] {
					all = append(all, fmt.Sprintf("%s, removed: %t", seed.oid, gone[seed.of]))
				}
				runs[seed.oid] = true
			}
		}
		return lines(all)
	},
	got: func(st Store) string {
		var all []string
		scanClass(st, classIdentity, func(oid string, _, _ []byte) {
			id, _ := Lookup(st, oid)
			all = append(all, fmt.Sprintf("%s %s %d.%d, removed: %t", oid, id.Kind, id.By, id.F, id.Removed))
		})
		scanClass(st, classSlot, func(run string, _, v []byte) {
			all = append(all, fmt.Sprintf("%s, removed: %t", run, len(v) == 0))
		})
		return lines(all)
	},
}
