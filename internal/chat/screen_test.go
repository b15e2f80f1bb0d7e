package chat

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/roamsync/roam/client"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// stage is a screen without a session behind it: what it would have done is noted.
type stage struct {
	*screen
	t    *testing.T
	done []command
	olds int
}

func newStage(t *testing.T, width, height int) *stage {
	s := &stage{t: t}
	s.screen = newScreen("alice/trip", "alice", "laptop", deeds{
		do: func(c command) (string, error) {
			s.done = append(s.done, c)
			if c.arg == "nowhere" {
				return "", errors.New("unknown region: \"nowhere\"")
			}
			return "", nil
		},
		older: func() { s.olds++ },
	})
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return s
}

var keys = map[string]tea.KeyPressMsg{
	"enter": {Code: tea.KeyEnter}, "alt+enter": {Code: tea.KeyEnter, Mod: tea.ModAlt}, "tab": {Code: tea.KeyTab},
	"up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown}, "pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown},
	"ctrl+c": {Code: 'c', Mod: tea.ModCtrl}, "ctrl+d": {Code: 'd', Mod: tea.ModCtrl},
}

// press presses keys by name and types everything else.
func (s *stage) press(all ...string) (last tea.Cmd) {
	for _, k := range all {
		if key, ok := keys[k]; ok {
			_, last = s.Update(key)
			continue
		}
		for _, r := range k {
			s.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
		}
	}
	return last
}

func (s *stage) shows() string {
	var lines []string
	for _, line := range strings.Split(ansi.Strip(s.View().Content), "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (s *stage) golden(name string) {
	s.t.Helper()
	path, got := filepath.Join("testdata", name+".txt"), s.shows()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != string(want) {
		s.t.Errorf("%s: shows\n%s\nnot\n%s", path, got, want)
	}
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// talk is a session in the middle of an answer.
func talk() snapshot {
	return snapshot{
		State: client.State{
			Session: "alice/trip", Live: true, Region: "beijing",
			Log: []*client.Entry{
				{Kind: client.KindMessage, OID: "m1", User: "alice", Device: "phone", Text: "what is there to see in Shanghai?"},
				{Kind: client.KindAnswer, OID: "r1", Of: "m1", Model: "echo", Status: "done", Text: "the Bund\n外滩 and the gardens 🌸"},
				{Kind: client.KindMessage, OID: "m2", User: "alice", Device: "laptop", Text: "and when is it warm?"},
				{Kind: client.KindAnswer, OID: "r2", Of: "m2", Model: "echo", Status: "running", Text: "from May"},
			},
			Outbox: []client.OwnOp{
				{OID: "m2", Kind: client.KindMessage, Text: "and when is it warm?", Stage: client.Stored},
				{OID: "m3", Kind: client.KindMessage, Text: "thanks", Stage: client.Sent},
			},
		},
		status: client.Status{Region: "beijing", Connected: true, User: "alice", Conn: "c1"}, regions: []string{"beijing", "shanghai"}, at: noon,
		trip: 3 * time.Millisecond,
	}
}

func TestScreenOfATalk(t *testing.T) {
	s := newStage(t, 60, 18)
	s.golden("empty")
	s.Update(talk())
	s.golden("talk")

	s.press("/move shanghai", "enter")
	away := talk()
	away.Live, away.Region, away.status.Connected = false, "", false
	away.at = noon.Add(time.Second)
	away.moving = noon
	s.Update(away)
	s.golden("away")

	there := talk()
	there.Region, there.status = "shanghai", client.Status{Region: "shanghai", Connected: true, User: "alice", Conn: "c2"}
	there.at, there.Outbox, there.Behind = noon.Add(1240*time.Millisecond), nil, true
	there.Log = append(there.Log, &client.Entry{Kind: client.KindMessage, OID: "m3", User: "alice", Device: "laptop", Text: "thanks"})
	s.Update(there)
	s.golden("moved")

	there.Behind = false
	s.Update(there)
	if strings.Contains(s.shows(), "behind") {
		t.Error("still behind")
	}
	back := there
	back.status.Conn, back.at = "c3", noon.Add(2*time.Second)
	s.Update(back)
	if !strings.Contains(s.shows(), "— back in shanghai —") {
		t.Error("does not tell of a new connection:\n" + s.shows())
	}
}

func TestScreenTellsWhatIsWrong(t *testing.T) {
	s := newStage(t, 60, 14)
	bad := snapshot{status: client.Status{Region: "beijing"}, at: noon, trouble: "dial tcp 127.0.0.1:1: connection refused"}
	s.Update(bad)
	s.Update(bad) // and not twice
	bad.Err = &client.Refusal{Code: "forbidden", Msg: "alice may not do that with bob/trip"}
	bad.refused = []string{"not stored: busy: an answer runs"}
	s.Update(bad)
	s.press("/move nowhere", "enter", "/nope", "enter")
	s.input.Reset() // it stays to be mended
	s.press("/kill beijing", "enter")
	s.golden("wrong")
}

func TestScreenDoesWhatIsTyped(t *testing.T) {
	s := newStage(t, 60, 14)
	s.Update(talk())
	s.press("one", "alt+enter", "two", "enter", "//slash", "enter", "/mov", "tab", "sh", "tab", "enter", "   ", "enter")
	want := []command{{say, "one\ntwo"}, {say, "/slash"}, {"move", "shanghai"}}
	if len(s.done) != len(want) || s.done[0] != want[0] || s.done[1] != want[1] || s.done[2] != want[2] {
		t.Errorf("did %q, not %q", s.done, want)
	}
	s.input.Reset()
	s.press("draft", "up", "up", "up")
	if got := s.input.Value(); got != "one\ntwo" {
		t.Errorf("recalls %q", got)
	}
	s.press("down", "down", "down", "down")
	if got := s.input.Value(); got != "draft" {
		t.Errorf("comes back to %q", got)
	}
	if s.press("ctrl+d") != nil && s.quit {
		t.Error("left with a draft")
	}
	if cmd := s.press("ctrl+c"); cmd == nil || !s.quit {
		t.Error("did not leave")
	}
}

func TestScreenSwitchesRegions(t *testing.T) {
	s := newStage(t, 60, 14)
	s.Update(talk())
	s.Update(switched{})
	s.press("/ki", "tab")
	cmd := s.press("bei", "tab", "enter")
	if cmd == nil || len(s.done) != 0 {
		t.Fatalf("%v is not done in the background, or %q at once", cmd, s.done)
	}
	s.Update(cmd())
	if len(s.done) != 1 || s.done[0] != (command{"kill", "beijing"}) {
		t.Errorf("did %q", s.done)
	}
	s.Update(reply{"killed beijing", nil})
	if !strings.Contains(s.shows(), "killed beijing") {
		t.Error(s.shows())
	}
}

func TestScreenScrolls(t *testing.T) {
	s := newStage(t, 40, 10)
	long := talk()
	long.More = true
	for i := range 30 {
		long.Log = append(long.Log, &client.Entry{Kind: client.KindMessage, OID: string(rune('A' + i)), User: "bob", Device: "x", Text: "line"})
	}
	s.Update(long)
	s.press("pgup")
	if !strings.Contains(s.shows(), "lines below") || s.olds != 0 {
		t.Errorf("%d times asked for more:\n%s", s.olds, s.shows())
	}
	for range 20 {
		s.press("pgup")
	}
	if !strings.Contains(s.shows(), "what is there to see") || s.olds == 0 {
		t.Errorf("%d times asked for more:\n%s", s.olds, s.shows())
	}
	for range 20 {
		s.press("pgdown")
	}
	if strings.Contains(s.shows(), "lines below") {
		t.Error(s.shows())
	}
}

// FuzzNothingOfOthersReachesTheTerminal: whatever others write, a screen has no byte that a terminal obeys but those of its
// own styles, and no line is wider than the screen.
func FuzzNothingOfOthersReachesTheTerminal(f *testing.F) {
	for _, s := range []string{"\x1b]0;owned\a\x1b[2J", "\u009b31m", "a\rb\bc\x7f", "\u202eevil\u2066", "外滩🌸👩‍👩‍👧 e\u0301", "\xff\xfe", "a\u2028b\tc", "\x1b[31m\n\x1b"} {
		f.Add(s, 13)
	}
	f.Fuzz(func(t *testing.T, text string, width int) {
		width = minWidth + int(uint(width)%80)
		s := newStage(t, width, 20)
		quoted, _ := json.Marshal(text)
		now := talk()
		now.Region, now.trouble = text, text
		now.Log = append(now.Log,
			&client.Entry{Kind: client.KindMessage, OID: "x", User: text, Device: text, Text: text},
			&client.Entry{Kind: client.KindAnswer, OID: "y", Model: text, Text: text, Status: "failed", Err: string(quoted)})
		s.Update(now)
		for _, line := range strings.Split(s.View().Content, "\n") {
			if w := ansi.StringWidth(line); w > width {
				t.Errorf("%d columns of %d: %q", w, width, line)
			}
		}
		for _, r := range ansi.Strip(s.View().Content) {
			if r != '\n' && harmless(r) != r {
				t.Errorf("%q has %U", s.View().Content, r)
			}
		}
		for _, line := range strings.Split(clean(text), "\n") {
			if ansi.Strip(line) != line {
				t.Errorf("a terminal obeys %q", line)
			}
		}
	})
}
