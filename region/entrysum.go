package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// sumMark begins an entry's checksum: it says how it was made.
const sumMark = 0xC1

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errEntrySum = errors.New("its checksum does not hold")
)

// summedLog gives each entry a checksum of its own. raft-wal checks its own only when it opens the last segment, and hands out what it reads
// later as it is. The checksum is in what Raft leaves to such layers; entries of older versions have none.
type summedLog struct{ raft.LogStore }

// StoreLog implements raft.LogStore.
func (s summedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s summedLog) StoreLogs(ls []*raft.Log) error {
	summed := make([]*raft.Log, len(ls))
	copies := make([]raft.Log, len(ls))
	for i, l := range ls {
		copies[i] = *l
		copies[i].Extensions = binary.BigEndian.AppendUint32([]byte{sumMark}, entrySum(l))
		summed[i] = &copies[i]
	}
	return s.LogStore.StoreLogs(summed)
}

// GetLog implements raft.LogStore.
func (s summedLog) GetLog(index uint64, l *raft.Log) error {
	if err := s.LogStore.GetLog(index, l); err != nil {
		return err
	}
	ext := l.Extensions
	l.Extensions = nil
	if len(ext) == 0 {
		return nil
	}
	if len(ext) != 5 || ext[0] != sumMark || binary.BigEndian.Uint32(ext[1:]) != entrySum(l) || l.Index != index {
		return fmt.Errorf("entry %d: %w", index, errEntrySum)
	}
	return nil
}

func entrySum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
}
