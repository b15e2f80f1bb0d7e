package region

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// featureLevel is the newest format of a Raft entry that this version applies.
const featureLevel = 1

var errEntry = errors.New("bad Raft entry")

// command is one thing that an entry does. kind says which fields count.
type command struct {
	kind     commandKind
	session  string       // put
	floor    crdt.Floor   // put
	ops      []*crdt.Op   // put, answer
	tag      uint64       // put: the caller's, in the process that is entry
	entry    string       // put
	position string       // answer
	records  wire.Records // ingest
	lost     crdt.Origin  // renew: only if this is the current incarnation
	next     crdt.Origin  // renew
	peer     string       // peer
}

type commandKind uint64

const (
	cmdPut commandKind = iota + 1
	cmdAnswer
	cmdIngest
	cmdRenew
	cmdPeer
)

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func (c *command) encode() []byte {
	b := appendUint(nil, 1, uint64(c.kind))
	switch c.kind {
	case cmdPut:
		b = appendBytes(b, 2, []byte(c.session))
		b = appendUint(b, 3, c.floor.Seq)
		b = appendUint(b, 4, uint64(c.floor.Stamp))
		b = appendUint(b, 5, c.tag)
		b = appendBytes(b, 6, []byte(c.entry))
	case cmdAnswer:
		b = appendBytes(b, 7, []byte(c.position))
	case cmdIngest:
		b = appendBytes(b, 8, []byte(c.records.Origin))
		b = appendUint(b, 9, uint64(c.records.Partition))
		b = appendUint(b, 10, c.records.From)
		b = appendBytes(b, 11, c.records.Hash[:])
		for _, r := range c.records.Records {
			b = appendBytes(b, 12, r)
		}
	case cmdRenew:
		b = appendBytes(b, 13, []byte(c.lost))
		b = appendBytes(b, 14, []byte(c.next))
	case cmdPeer:
		b = appendBytes(b, 15, []byte(c.peer))
	}
	for _, op := range c.ops {
		b = appendBytes(b, 16, op.Encode())
	}
	return b
}

func decodeCommand(b []byte) (*command, error) {
	c := &command{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: tag", errEntry)
		}
		b = b[n:]
		var err error
		if typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return nil, fmt.Errorf("%w: field %d", errEntry, num)
			}
			b = b[n:]
			err = c.setUint(num, v)
		} else {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 || typ != protowire.BytesType {
				return nil, fmt.Errorf("%w: field %d", errEntry, num)
			}
			b = b[n:]
			err = c.setBytes(num, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *command) setUint(num protowire.Number, v uint64) error {
	switch num {
	case 1:
		c.kind = commandKind(v)
	case 3:
		c.floor.Seq = v
	case 4:
		c.floor.Stamp = crdt.Stamp(v)
	case 5:
		c.tag = v
	case 9:
		c.records.Partition = uint8(v)
	case 10:
		c.records.From = v
	default:
		return fmt.Errorf("%w: unknown field %d", errEntry, num)
	}
	return nil
}

func (c *command) setBytes(num protowire.Number, v []byte) error {
	switch num {
	case 2:
		c.session = string(v)
	case 6:
		c.entry = string(v)
	case 7:
		c.position = string(v)
	case 8:
		c.records.Origin = crdt.Origin(v)
	case 11:
		copy(c.records.Hash[:], v)
	case 12:
		c.records.Records = append(c.records.Records, v)
	case 13:
		c.lost = crdt.Origin(v)
	case 14:
		c.next = crdt.Origin(v)
	case 15:
		c.peer = string(v)
	case 16:
		op, err := crdt.DecodeOp(v)
		if err != nil {
			return fmt.Errorf("%w: %w", errEntry, err)
		}
		c.ops = append(c.ops, op)
	default:
		return fmt.Errorf("%w: unknown field %d", errEntry, num)
	}
	return nil
}

// encodeEntry joins commands into what one Raft entry holds: the format's level, then the commands.
func encodeEntry(cmds [][]byte) []byte {
	b := protowire.AppendVarint(nil, featureLevel)
	for _, c := range cmds {
		b = protowire.AppendBytes(b, c)
	}
	return b
}

func decodeEntry(b []byte) ([]*command, error) {
	level, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return nil, errEntry
	}
	if level > featureLevel {
		return nil, fmt.Errorf("%w of level %d: this version applies up to %d, so install the newer one", errEntry, level, featureLevel)
	}
	var cmds []*command
	for b = b[n:]; len(b) > 0; b = b[n:] {
		var v []byte
		if v, n = protowire.ConsumeBytes(b); n < 0 {
			return nil, errEntry
		}
		c, err := decodeCommand(v)
		if err != nil {
			return nil, err
		}
		cmds = append(cmds, c)
	}
	return cmds, nil
}
