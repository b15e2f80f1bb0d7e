package openai

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/roamsync/roam/dispatch/llm"
)

// raw makes settings of keys and values in turns.
func raw(kv ...string) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	for i := 0; i+1 < len(kv); i += 2 {
		all[kv[i]] = json.RawMessage(kv[i+1])
	}
	return all
}

// log makes a job of roles and texts in turns; the last is the question.
func log(rt ...string) llm.Job {
	j := asked(rt[len(rt)-1])
	for i := 0; i+1 < len(rt); i += 2 {
		j.Messages = append(j.Messages, llm.Message{Role: rt[i], Text: rt[i+1]})
	}
	return j
}

func written(ms []message) string {
	var all []string
	for _, m := range ms {
		all = append(all, m.Role+": "+m.Content)
	}
	return strings.Join(all, "|")
}

func testModel(t testing.TB, budget int) *Model {
	t.Helper()
	m, err := New(Config{BaseURL: "http://h/v1", ContextTokens: budget, Upstream: map[string]string{"m": "there/m"}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPromptIsTheSession(t *testing.T) {
	m := testModel(t, 0)
	parts := log("user", "", "user", "why?")
	parts.Messages[0].Parts = json.RawMessage(`[{"type":"image_url","image_url":{"url":"http://x"}},{"type":"text","text":"see"}]`)
	for want, job := range map[string]llm.Job{
		"user: hi":                               asked("hi"),
		"user: a|assistant: b|user: c":           log("user", "a", "assistant", "b", "user", "c"),
		"user: a\n\nb|assistant: c|user: d\n\ne": log("user", "a", "user", "b", "assistant", "c", "user", "d", "user", "e"),
		"user: c":                                log("assistant", "b", "user", "c"),
		"user: a|system: s|user: b\n\nc":         log("user", "a", "developer", "s", "tool", "b", "assistant", " ", "assistant", "c"),
		"user: see\n\nwhy?":                      parts,
	} {
		got, err := m.prompt("", job)
		if err != nil || written(got) != want {
			t.Errorf("got  %q, %v\nwant %q", written(got), err, want)
		}
	}
	if got, err := m.prompt("be brief", asked("hi")); err != nil || written(got) != "system: be brief|user: hi" {
		t.Errorf("%q, %v", written(got), err)
	}
	if _, err := m.prompt("", asked(" \n")); err != errNothingAsked {
		t.Errorf("nothing was asked, and %v", err)
	}
}

func TestOldestGoesFirst(t *testing.T) {
	long := strings.Repeat("x", 600) // 200 tokens and those of a message
	job := log("user", "1"+long, "assistant", "2"+long, "user", "3"+long, "assistant", "4"+long, "user", "5")
	for budget, want := range map[int]string{1000: "12345", 700: "345", 500: "345", 300: "5", 256: "5"} {
		m := testModel(t, budget)
		got, err := m.prompt("s", job)
		if err != nil {
			t.Fatal(err)
		}
		first := ""
		for _, m := range got[1:] {
			first += m.Content[:1]
		}
		if first != want || got[0].Content != "s" {
			t.Errorf("of %d tokens: %s, want %s", budget, first, want)
		}
	}
}

func TestLongQuestionIsCutInTheMiddle(t *testing.T) {
	m := testModel(t, 300)
	question := "BEGIN " + strings.Repeat("你好 ", 2000) + " END"
	got, err := m.prompt("be brief", log("user", "old", "user", question))
	if err != nil || len(got) != 2 || got[0].Content != "be brief" {
		t.Fatalf("%q, %v", written(got), err)
	}
	q := got[1].Content
	if !strings.HasPrefix(q, "BEGIN") || !strings.HasSuffix(q, "END") || !strings.Contains(q, "characters left out") {
		t.Errorf("cut to %q", q)
	}
	if _, err := m.prompt(strings.Repeat("x", 1000), asked("hi")); err == nil || !strings.Contains(err.Error(), "--context-tokens") {
		t.Errorf("a system prompt beyond the budget: %v", err)
	}
}

// TestPromptsFit: whatever was said, the prompt is within its budget, whole characters, and ends with the question.
func TestPromptsFit(t *testing.T) {
	m := testModel(t, MinContextTokens)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringN(0, 2000, -1), rapid.StringMatching(`[a-z ]{0,900}`))
		role := rapid.SampledFrom([]string{"user", "assistant", "system", "x"})
		var turns []string
		for range rapid.IntRange(0, 8).Draw(t, "turns") {
			turns = append(turns, role.Draw(t, "role"), text.Draw(t, "text"))
		}
		job := log(append(turns, "user", "?"+text.Draw(t, "question"))...)
		got, err := m.prompt("be brief", job)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for i, g := range got {
			sum += cost(g.Content)
			if !utf8.ValidString(g.Content) || i > 0 && g.Role == got[i-1].Role {
				t.Fatalf("message %d: %+v", i, g)
			}
		}
		if tokens(sum) > MinContextTokens {
			t.Fatalf("%d tokens", tokens(sum))
		}
		if last := got[len(got)-1]; last.Role != "user" || !strings.Contains(last.Content, "?") {
			t.Fatalf("ends with %+v", last)
		}
	})
}

func TestCutTellsHowMuch(t *testing.T) {
	text := strings.Repeat("ü", 1000)
	cut := cutMiddle(text, 200*unit)
	var gone int
	at := strings.Index(cut, "\n[")
	if _, err := fmt.Sscanf(cut[at:], cutMark, &gone); err != nil {
		t.Fatalf("%q: %v", cut, err)
	}
	if left := strings.Count(cut, "ü"); left+gone != 1000 || left < 100 || cost(cut) > 200*unit {
		t.Errorf("%d left, %d gone, %d tokens", left, gone, tokens(cost(cut)))
	}
}

func TestSettingsAreSent(t *testing.T) {
	m := testModel(t, 0)
	job := asked("hi")
	job.Settings = raw("system", `"be brief"`, "temperature", `0`, "max_tokens", `9`, "colour", `"red"`, "model", `"x"`)
	r, err := m.request(job)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	want := `{"model":"there/m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}],"stream":true,` +
		`"stream_options":{"include_usage":true},"temperature":0,"max_tokens":9}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v\nwant %s", b, err, want)
	}
	job.Settings = raw("system", `null`, "temperature", `null`)
	if r, err := m.request(job); err != nil || r.Temperature != nil || r.MaxTokens != nil || len(r.Messages) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	theirs, err := New(Config{BaseURL: "https://api.openai.com/v1"})
	if err != nil {
		t.Fatal(err)
	}
	job.Settings = raw("max_tokens", `9`)
	if r, err := theirs.request(job); err != nil || r.MaxTokens != nil || *r.MaxCompletionTokens != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	u := serve(t, streaming(says("a"), finish("stop")))
	for key, values := range map[string][]string{
		"system": {`7`, `{"a":1}`, `xx`}, "temperature": {`"hot"`, `-0.1`, `2.1`, `1e999`}, "max_tokens": {`0`, `-1`, `1.5`, `"9"`, `99999999`},
	} {
		for _, v := range values {
			job := asked("hi")
			job.Settings = raw(key, v)
			u.ask(job).wants(t, "", "", fmt.Sprintf("setting %q", key))
		}
	}
	if n := len(u.requests()); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

func TestWithoutKeyNoneIsSent(t *testing.T) {
	u := serve(t, streaming(says("a"), finish("stop")))
	m := u.model(t.Output(), prometheus.NewRegistry(), func(c *Config) { c.APIKey = "" })
	if _, err := m.Answer(t.Context(), asked("hi"), func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, sent := u.header[0]["Authorization"]; sent {
		t.Errorf("sent %v", u.header[0])
	}
	if strings.Contains(u.body(0), "temperature") {
		t.Errorf("sent %s", u.body(0))
	}
}
