package client

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/roamsync/roam/wire"
)

// TestHelloFitsAFrame: with as many sessions as it may resume, the longest names and the longest tokens.
func TestHelloFitsAFrame(t *testing.T) {
	hello := helloFrame{T: "hello", ID: 1, Token: strings.Repeat("t", 8<<10), Device: strings.Repeat("d", wire.MaxName), Agent: strings.Repeat("a", wire.MaxName)}
	name := strings.Repeat("n", wire.MaxName)
	for range helloOpens {
		hello.Open = append(hello.Open, openItem{S: name + "/" + name, Cur: strings.Repeat("c", wire.MaxCur), Tail: wire.MaxTail})
	}
	if b, err := json.Marshal(hello); err != nil || len(b) > wire.MaxFrame {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
