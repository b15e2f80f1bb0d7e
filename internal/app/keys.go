package app

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

// keySize is the length of a secret in bytes.
const keySize = 32

// KeyRing is a secret file: one key a line in hex, the first in use, the others still accepted. It is the same in
// every region; keys for single purposes are derived from it.
type KeyRing [][]byte

// newKey returns a random key.
func newKey() ([]byte, error) {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return key, nil
}

// write writes a secret file.
func (r KeyRing) write(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("# Roam key ring: the same file in every region. The first key is in use, the others are accepted.\n")
	for _, key := range r {
		fmt.Fprintf(&b, "%x\n", key)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// newKeyRing is a ring that is kept nowhere.
func newKeyRing() (KeyRing, error) {
	key, err := newKey()
	return KeyRing{key}, err
}

// ReadKeyRing reads a secret file. Errors name the flag.
func ReadKeyRing(path string) (KeyRing, error) {
	if path == "" {
		return nil, fmt.Errorf("--secret-file is required: make one with `roam keygen > FILE` and give it to every region")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	ring, err := parseKeyRing(b)
	if err != nil {
		return nil, fmt.Errorf("--secret-file %s: %w", path, err)
	}
	return ring, nil
}

func parseKeyRing(b []byte) (KeyRing, error) {
	var ring KeyRing
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("line %d is not a key of %d hex digits: make a file with `roam keygen`", n, 2*keySize)
		}
		ring = append(ring, key)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(ring) == 0 {
		return nil, fmt.Errorf("no key in it: make a file with `roam keygen`")
	}
	return ring, nil
}

// ids are short names of the keys, which say nothing about them: for operators to see who has which.
func (r KeyRing) ids() []string {
	all := []string{}
	for _, k := range r.derive("id") {
		all = append(all, hex.EncodeToString(k[:4]))
	}
	return all
}

// derive returns the ring's keys for one purpose, so that none serves two.
func (r KeyRing) derive(purpose string) [][]byte {
	keys := make([][]byte, len(r))
	for i, k := range r {
		d, err := hkdf.Key(sha256.New, k, nil, "roam "+purpose+" v1", keySize)
		if err != nil {
			panic(err) // only for lengths that SHA-256 cannot give
		}
		keys[i] = d
	}
	return keys
}
