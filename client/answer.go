package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// answer is what is held of one run: how far its greatest attempt has come.
type answer struct {
	of, model  string
	state      string
	ep         string
	text       []byte
	len        *uint64
	sum        string
	fin        string
	usage, err json.RawMessage
}

// fit says how a frame fits what is held.
type fit int

const (
	fits   fit = iota // taken
	stale             // known before, or of an attempt that was replaced: nothing changed
	gap               // something between it and what is held is missing
	differ            // the closed answer is not the text held
)

// tok takes a piece. Pieces of one attempt are all parts of one text, so an overlap is what is held already.
func (a *answer) tok(ep string, off uint64, d string) fit {
	held := uint64(len(a.text))
	switch {
	case ep < a.ep, ep == a.ep && closedState(a.state):
		return stale
	case off > held:
		return gap
	case ep > a.ep:
		a.ep, a.state, a.text = ep, "running", append(a.text[:off:off], d...)
		a.len, a.sum, a.fin, a.usage, a.err = nil, "", "", nil, nil
		return fits
	case off+uint64(len(d)) <= held:
		return stale
	}
	a.text = append(a.text, d[held-off:]...)
	return fits
}

// entry takes an entry of the log for this run. What is held stands against an older attempt and, within an attempt,
// against a shorter text: a region that was moved to may be some pieces behind the one that was left.
func (a *answer) entry(it *item) fit {
	a.of = it.Of
	if it.EP < a.ep || it.EP == a.ep && closedState(a.state) && !closedState(it.State) {
		return stale
	}
	if it.Text != nil && !a.ahead(it) {
		a.text = []byte(*it.Text)
	}
	a.model, a.state, a.ep = it.Model, it.State, it.EP
	a.len, a.sum, a.fin, a.usage, a.err = it.Len, it.Sum, it.Fin, it.Usage, it.Err
	if !a.whole() {
		return differ
	}
	return fits
}

// ahead reports whether what is held is the entry's text and more of the same attempt.
func (a *answer) ahead(it *item) bool {
	return it.EP == a.ep && !closedState(it.State) && strings.HasPrefix(string(a.text), *it.Text)
}

// whole reports whether a closed answer's text is the one its region closed; true for one that is not closed.
func (a *answer) whole() bool {
	if !closedState(a.state) {
		return true
	}
	return (a.len == nil || *a.len == uint64(len(a.text))) && (a.sum == "" || a.sum == sumOf(a.text))
}

// sumOf is the first 16 hex digits of a text's SHA-256.
func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
