package machine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/roamsync/roam/crdt"
)

// Owned shows the sessions whose names begin with a prefix, one after the other, as all of them are at this moment. The stores
// are read only, and each ends with its visit. It stops when visit returns an error, and returns that.
func (m *Machine) Owned(prefix string, visit func(session string, st crdt.Store) error) error {
	snap := m.cfg.Store.Snapshot()
	var err error
	for p := 0; p < crdt.Partitions && err == nil; p++ {
		err = owned(snap, uint8(p), prefix, visit)
	}
	return errors.Join(err, snap.Close())
}

func owned(r Reader, p uint8, prefix string, visit func(session string, st crdt.Store) error) error {
	from := append([]byte{spaceSession, p}, prefix...)
	end := upper(from)
	for {
		session := ""
		err := r.Scan(from, end, false, func(k, _ []byte) bool {
			session, _ = SessionOf(k)
			return false
		})
		if err != nil || session == "" {
			return err
		}
		st := &sessionStore{read: r, prefix: sessionPrefix(p, session)}
		if err := errors.Join(visit(session, st), st.err); err != nil {
			return fmt.Errorf("session %s: %w", session, err)
		}
		from = upper(sessionPrefix(p, session))
	}
}

// SessionOf is the session that a key of a state is of, if it is of one.
func SessionOf(key []byte) (session string, ok bool) {
	if len(key) < 3 || key[0] != spaceSession {
		return "", false
	}
	name, _, ok := bytes.Cut(key[2:], []byte{0})
	return string(name), ok
}

// Disown takes from a state what it numbers under: whoever goes on from it must begin a new incarnation first. It is for states of
// which others may have seen a later one.
func Disown(st Store) error {
	b := st.Batch()
	return errors.Join(b.Delete(MetaKey(metaSelf)), b.Commit(), b.Close())
}
