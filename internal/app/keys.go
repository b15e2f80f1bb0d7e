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

// Keygen writes a new ring of one key.
func Keygen(w io.Writer) error {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	_, err := fmt.Fprintf(w, "# Roam key ring: the same file in every region. The first key is in use, the others are accepted.\n%x\n", key)
	return err
}

// newKeyRing is a ring that is kept nowhere.
func newKeyRing() (KeyRing, error) {
	var b bytes.Buffer
	if err := Keygen(&b); err != nil {
		return nil, err
	}
	return parseKeyRing(b.Bytes())
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
