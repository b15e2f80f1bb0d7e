package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// KeygenOptions is what `roam keygen` is told. Without any it prints a new ring.
type KeygenOptions struct {
	Add  string `placeholder:"FILE" help:"Step 1 of another key: add a new one at the end of a ring, where it is accepted and not used."`
	Use  string `placeholder:"FILE" help:"Step 2, when every node has that file: move the last key of a ring to the front, where it is used."`
	Drop string `placeholder:"FILE" help:"Step 3, when every node has that file too: remove all keys of a ring but the first."`
}

// Keygen prints a new ring of one key, or changes a ring in its file.
func Keygen(o KeygenOptions, w io.Writer) error {
	steps := []struct {
		file string
		step func(KeyRing) (KeyRing, error)
		then string
	}{
		{o.Add, addKey, "Copy it to every node of every region; when roam status shows both keys on all of them: roam keygen --use"},
		{o.Use, useKey, "Copy it to every node of every region; when roam status shows the new key first on all of them: roam keygen --drop"},
		{o.Drop, dropKeys, "Copy it to every node of every region. Resume tokens made with the old key are no longer taken: those clients get a snap once."},
	}
	told := 0
	for _, s := range steps {
		if s.file != "" {
			told++
		}
	}
	if told > 1 {
		return errors.New("--add, --use and --drop are steps, each after the one before has reached every node: give one of them")
	}
	for _, s := range steps {
		if s.file != "" {
			return changeRing(s.file, s.step, s.then, w)
		}
	}
	ring, err := newKeyRing()
	if err != nil {
		return err
	}
	return ring.write(w)
}

func changeRing(file string, step func(KeyRing) (KeyRing, error), then string, w io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	ring, err := parseKeyRing(b)
	if err == nil {
		ring, err = step(ring)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var changed bytes.Buffer
	if err := ring.write(&changed); err != nil {
		return err
	}
	if err := replace(file, changed.Bytes()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: keys %s; the first is used, the others are accepted.\n%s\n", file, strings.Join(ring.ids(), ", "), then)
	return err
}

func addKey(ring KeyRing) (KeyRing, error) {
	if len(ring) > 1 {
		return nil, errors.New("it has several keys: end the change that was begun first (--use, --drop)")
	}
	key, err := newKey()
	return append(ring, key), err
}

func useKey(ring KeyRing) (KeyRing, error) {
	if len(ring) < 2 {
		return nil, errors.New("it has one key: nothing to move to the front (--add comes first)")
	}
	last := len(ring) - 1
	return append(KeyRing{ring[last]}, ring[:last]...), nil
}

func dropKeys(ring KeyRing) (KeyRing, error) {
	if len(ring) < 2 {
		return nil, errors.New("it has one key: nothing to remove")
	}
	return ring[:1], nil
}
