package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
	"github.com/roamsync/roam/wire/peerpb"
)

// FeatureLevel is the newest format of a Raft entry that this version applies. What a region may propose is the level that it
// has committed: see Command.Level.
const FeatureLevel = 5

var errEntry = errors.New("bad Raft entry")

// Command is one thing that an entry does. Kind says which fields count.
type Command struct {
	Kind     Kind
	Session  string        // put
	Floor    crdt.Floor    // put
	Ops      []*crdt.Op    // put, answer; trim, purge, mark, expire: one for each session
	Tag      uint64        // put: the caller's, in the process that is Entry
	Entry    string        // put
	Position string        // answer
	Records  wire.Records  // ingest
	Lost     crdt.Origin   // renew: only if this is the current incarnation
	Next     crdt.Origin   // renew
	Peer     string        // peer
	Keep     uint64        // trim: about how many entries of each session stay
	Shape    Shape         // shape
	Floors   []Floor       // floor
	Part     *peerpb.Part  // install
	From     string        // install, merge: the region that the state is of
	Into     uint8         // merge: the partition
	Bytes    uint64        // merge: about how much
	Before   int64         // purge: sessions that were not used since, in ms since 1970; expire: what was gone then
	Finals   []wire.Final  // close
	Eviction crdt.Eviction // evict: of the region Peer
}

// Kind is what a command does.
type Kind uint64

// The kinds of commands.
const (
	KindPut    Kind = iota + 1 // take in a client's ops
	KindAnswer                 // take in workers' reports, and the position in the results up to which they were read
	KindIngest                 // take in another origin's records
	KindRenew                  // go on under a new incarnation
	KindPeer                   // remember that another region was met
	KindTrim                   // take the oldest entries out of sessions that are too long
)

// The kinds of commands that move a feed's floor.
const (
	KindFloor   Kind = iota + 7 // drop records that no other region needs
	KindInstall                 // take in a part of a partition's state, as another region has it
	KindMerge                   // merge some of a state that has come as a whole
)

// Size estimates what a command adds to an entry.
func (c *Command) Size() (ops, bytes int) {
	for _, op := range c.Ops {
		bytes += 128 + len(op.Text) + len(op.Parts) + len(op.Value)
	}
	for _, b := range c.Records.Records {
		bytes += len(b)
	}
	for _, ses := range c.Part.GetSessions() {
		for i, k := range ses.Keys {
			bytes += len(k) + len(ses.Values[i])
		}
	}
	return len(c.Ops) + len(c.Records.Records) + len(c.Part.GetSessions()), bytes
}

// Stamp gives a command's ops their stamps, above all that came before in the log and all that the client has seen.
// Whoever proposes calls it for one command after the other, in the order of the log.
func (c *Command) Stamp(clock *crdt.Clock, now time.Time) {
	for _, b := range c.Records.Records {
		if rec, err := wire.DecodeRecord(b); err == nil {
			if op, err := crdt.DecodeOp(rec.Op); err == nil {
				clock.Observe(op.Stamp)
			}
		}
	}
	for _, op := range c.Ops {
		op.Stamp, op.TS = clock.Next(now, c.Floor.Stamp), now.UnixMilli()
	}
}

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// commandHead is about what a command needs besides its ops and records.
const commandHead = 128

// Encode returns the bytes of a command in an entry.
func (c *Command) Encode() []byte {
	_, size := c.Size()
	b := appendUint(make([]byte, 0, commandHead+size+size/8), 1, uint64(c.Kind))
	switch c.Kind {
	case KindPut:
		b = appendBytes(b, 2, []byte(c.Session))
		b = appendUint(b, 3, c.Floor.Seq)
		b = appendUint(b, 4, uint64(c.Floor.Stamp))
		b = appendUint(b, 5, c.Tag)
		b = appendBytes(b, 6, []byte(c.Entry))
	case KindAnswer:
		b = appendBytes(b, 7, []byte(c.Position))
	case KindIngest:
		b = appendBytes(b, 8, []byte(c.Records.Origin))
		b = appendUint(b, 9, uint64(c.Records.Partition))
		b = appendUint(b, 10, c.Records.From)
		b = appendBytes(b, 11, c.Records.Hash[:])
		for _, r := range c.Records.Records {
			b = appendBytes(b, 12, r)
		}
	case KindRenew:
		b = appendBytes(b, 13, []byte(c.Lost))
		b = appendBytes(b, 14, []byte(c.Next))
	case KindPeer:
		b = appendBytes(b, 15, []byte(c.Peer))
	case KindTrim:
		b = appendUint(b, 17, c.Keep)
	case KindPurge, KindExpire:
		b = appendUint(b, 43, uint64(c.Before))
	case KindShape:
		b = c.Shape.encode(b)
	case KindFloor:
		for _, f := range c.Floors {
			b = appendBytes(b, 18, f.encode())
		}
	case KindInstall:
		b = appendBytes(b, 19, encodeMessage(c.Part))
		b = appendBytes(b, 20, []byte(c.From))
	case KindMerge:
		b = appendBytes(b, 20, []byte(c.From))
		b = appendUint(b, 21, uint64(c.Into))
		b = appendUint(b, 22, c.Bytes)
	case KindClose:
		for _, f := range c.Finals {
			b = appendBytes(b, 40, encodeFinal(f))
		}
	case KindEvict:
		b = appendBytes(b, 15, []byte(c.Peer))
		b = appendUint(b, 41, c.Eviction.Bound)
		b = appendUint(b, 42, c.Eviction.Back)
	}
	for _, op := range c.Ops {
		b = appendOp(b, 16, op)
	}
	return b
}

// appendOp is appendBytes of an op's encoding, which is made in place.
func appendOp(b []byte, n protowire.Number, op *crdt.Op) []byte {
	b = protowire.AppendTag(b, n, protowire.BytesType)
	at := len(b)
	b = op.Append(b)
	var room [binary.MaxVarintLen64]byte
	length := protowire.AppendVarint(room[:0], uint64(len(b)-at))
	b = append(b, length...)
	copy(b[at+len(length):], b[at:])
	copy(b[at:], length)
	return b
}

// DecodeCommand reads one command of an entry.
func DecodeCommand(b []byte) (*Command, error) {
	c := &Command{}
	return c, c.decode(b)
}

func (c *Command) decode(b []byte) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: tag", errEntry)
		}
		b = b[n:]
		var err error
		if typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%w: field %d", errEntry, num)
			}
			b = b[n:]
			err = c.setUint(num, v)
		} else {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 || typ != protowire.BytesType {
				return fmt.Errorf("%w: field %d", errEntry, num)
			}
			b = b[n:]
			err = c.setBytes(num, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Command) setUint(num protowire.Number, v uint64) error {
	switch num {
	case 1:
		c.Kind = Kind(v)
	case 3:
		c.Floor.Seq = v
	case 4:
		c.Floor.Stamp = crdt.Stamp(v)
	case 5:
		c.Tag = v
	case 9:
		c.Records.Partition = uint8(v)
	case 10:
		c.Records.From = v
	case 17:
		c.Keep = v
	case 32, 33, 35:
		c.Shape.setUint(num, v)
	case 21:
		c.Into = uint8(v)
	case 22:
		c.Bytes = v
	case 43:
		c.Before = int64(v)
	case 41:
		c.Eviction.Bound = v
	case 42:
		c.Eviction.Back = v
	default:
		return fmt.Errorf("%w: unknown field %d", errEntry, num)
	}
	return nil
}

func (c *Command) setBytes(num protowire.Number, v []byte) error {
	switch num {
	case 2:
		c.Session = string(v)
	case 6:
		c.Entry = string(v)
	case 7:
		c.Position = string(v)
	case 8:
		c.Records.Origin = crdt.Origin(v)
	case 11:
		copy(c.Records.Hash[:], v)
	case 12:
		c.Records.Records = append(c.Records.Records, v)
	case 13:
		c.Lost = crdt.Origin(v)
	case 14:
		c.Next = crdt.Origin(v)
	case 15:
		c.Peer = string(v)
	case 16:
		op, err := crdt.DecodeOp(v)
		if err != nil {
			return fmt.Errorf("%w: %w", errEntry, err)
		}
		c.Ops = append(c.Ops, op)
	case 34:
		c.Shape.Out = string(v)
	case 18:
		f, err := decodeFloor(v)
		if err != nil {
			return err
		}
		c.Floors = append(c.Floors, f)
	case 19:
		c.Part = &peerpb.Part{}
		if err := proto.Unmarshal(v, c.Part); err != nil {
			return fmt.Errorf("%w: %w", errEntry, err)
		}
	case 20:
		c.From = string(v)
	case 40:
		f, err := decodeFinal(v)
		if err != nil {
			return err
		}
		c.Finals = append(c.Finals, f)
	default:
		return fmt.Errorf("%w: unknown field %d", errEntry, num)
	}
	return nil
}

// EncodeEntry joins commands of the first level into what one Raft entry holds.
func EncodeEntry(cmds [][]byte) []byte { return EncodeEntryOf(firstLevel, cmds) }

// EncodeEntryOf joins commands of a level or below into what one Raft entry holds: the level, then the commands.
func EncodeEntryOf(level uint32, cmds [][]byte) []byte {
	size := protowire.SizeVarint(uint64(level))
	for _, c := range cmds {
		size += protowire.SizeBytes(len(c))
	}
	b := protowire.AppendVarint(make([]byte, 0, size), uint64(level))
	for _, c := range cmds {
		b = protowire.AppendBytes(b, c)
	}
	return b
}

// DecodeEntry reads the commands of an entry of at most a level.
func DecodeEntry(b []byte, most uint32) ([]*Command, error) {
	level, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return nil, errEntry
	}
	if level > uint64(most) {
		return nil, fmt.Errorf("%w of level %d: this version applies up to %d, so install the newer one", errEntry, level, most)
	}
	count, rest := 0, b[n:]
	for ; len(rest) > 0; count++ {
		if _, n := protowire.ConsumeBytes(rest); n < 0 {
			return nil, errEntry
		} else {
			rest = rest[n:]
		}
	}
	cmds, all := make([]*Command, count), make([]Command, count)
	b = b[n:]
	for i := range cmds {
		v, n := protowire.ConsumeBytes(b)
		if err := all[i].decode(v); err != nil {
			return nil, err
		}
		cmds[i], b = &all[i], b[n:]
	}
	return cmds, nil
}
