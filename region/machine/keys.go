package machine

import (
	"encoding/binary"

	"github.com/roamsync/roam/crdt"
)

// The key space. A partition is one range per kind, so that it can be moved or dropped as a whole.
const (
	spaceNode    = 0x00 // name: of this node alone; all that follows is the region's
	spaceMeta    = 0x01 // name
	spaceSession = 0x10 // partition, session, 0, element
	spaceFeed    = 0x20 // partition, origin id, f -> running hash, record
	spaceCursor  = 0x30 // partition, origin id -> f, hash
	spaceDeps    = 0x31 // partition -> what the own feed's last record depended on
	spaceFloor   = 0x32 // partition, origin id -> f, hash: records up to there are not held
	spaceBeyond  = 0x33 // partition -> what sessions may hold that the cursors do not cover, while a state is being merged
	spaceFinal   = 0x34 // partition, origin id -> f: the origin is closed, and has numbered up to there
	spaceOpen    = 0x40 // partition, session, 0, run: answers that are not closed
	spaceDigest  = 0x50 // partition -> sum of element hashes
	spaceInstall = 0x60 // partition, region -> how far the transfer of its state has come
	spaceStage   = 0x61 // partition, region, 0, epoch, session -> its elements, on their way in
	spaceMark    = 0x70 // partition, session -> what was gone of it at some times
	spaceEnd     = 0xff
)

// NodeKey is where something is kept that is a node's own, and not the machine's.
func NodeKey(name string) []byte { return append([]byte{spaceNode}, name...) }

// Shared is the range of keys that is a machine's state: equal on all nodes of a region that have applied the same
// entries. It begins after what is a node's own.
func Shared() (lo, hi []byte) { return []byte{spaceMeta}, []byte{spaceEnd} }

// MetaKey is where something of the region as a whole is kept.
func MetaKey(name string) []byte { return append([]byte{spaceMeta}, name...) }

func originKey(id crdt.OriginID) []byte {
	return binary.BigEndian.AppendUint32(MetaKey(metaOrigin), uint32(id))
}

func sessionPrefix(p uint8, session string) []byte {
	return append(append(append(make([]byte, 0, len(session)+3), spaceSession, p), session...), 0)
}

func feedKey(p uint8, id crdt.OriginID, f uint64) []byte {
	k := binary.BigEndian.AppendUint32([]byte{spaceFeed, p}, uint32(id))
	return binary.BigEndian.AppendUint64(k, f)
}

func cursorKey(p uint8, id crdt.OriginID) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceCursor, p}, uint32(id))
}

func floorKey(p uint8, id crdt.OriginID) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceFloor, p}, uint32(id))
}

func finalKey(p uint8, id crdt.OriginID) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceFinal, p}, uint32(id))
}

func installKey(p uint8, region string) []byte { return append([]byte{spaceInstall, p}, region...) }

func stageKey(p uint8, region string, epoch uint64, session string) []byte {
	k := append(append([]byte{spaceStage, p}, region...), 0)
	return append(binary.BigEndian.AppendUint64(k, epoch), session...)
}

func markKey(p uint8, session string) []byte { return append([]byte{spaceMark, p}, session...) }

func partitionKey(space, p uint8) []byte { return []byte{space, p} }

func openKey(p uint8, session, run string) []byte {
	return append(append(append([]byte{spaceOpen, p}, session...), 0), run...)
}

const (
	metaApplied = "applied"  // Raft index, 8 bytes
	metaSelf    = "self"     // current incarnation
	metaOrigin  = "origin/"  // + id in 4 bytes -> name
	metaPeer    = "peer/"    // + region: other regions ever met
	metaResults = "results"  // position in the results stream
	metaStamp   = "stamp"    // the greatest stamp applied, 8 bytes
	metaSize    = "size"     // voters that are wanted, 4 bytes
	metaLevel   = "level"    // feature level, 4 bytes
	metaOut     = "out/"     // + raft id: an Out, 1 byte
	metaBorn    = "born"     // the incarnation under which the state began
	metaEvicted = "evicted/" // + region: a crdt.Eviction, 8 bytes each
)
