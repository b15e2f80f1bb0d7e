package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/roamsync/roam/dispatch/llm"
)

// message is one as the server reads it.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// minQuestion is what a system prompt must leave of the budget.
const minQuestion = 64 * unit

var errNothingAsked = errors.New("the question has no text that a model could read")

// prompt makes a job's messages: the system prompt, as much of the log as fits, the newest first, and the question. It
// counts what was left out.
func (m *Model) prompt(system string, job llm.Job) ([]message, error) {
	turns, question := conversation(job)
	if question == "" {
		return nil, errNothingAsked
	}
	room := m.cfg.ContextTokens * unit
	var head []message
	if system != "" {
		head = []message{{"system", system}}
		room -= cost(system)
	}
	if room < minQuestion {
		return nil, fmt.Errorf("the session's system prompt takes about %d tokens: shorten it, or raise --context-tokens (%d)",
			tokens(cost(system)), m.cfg.ContextTokens)
	}
	if cost(question) > room {
		question = cutMiddle(question, room)
		m.met.left.WithLabelValues(leftMiddle).Inc()
	}
	kept := newest(turns, room-cost(question))
	m.met.left.WithLabelValues(leftMessage).Add(float64(len(turns) - len(kept)))
	return merge(slices.Concat(head, kept, []message{{"user", question}})), nil
}

// conversation is what was said before the question, and the question.
func conversation(job llm.Job) (turns []message, question string) {
	question = job.Prompt
	for i, t := range job.Messages {
		text := readable(t)
		switch {
		case i == len(job.Messages)-1:
			question = text
		case strings.TrimSpace(text) != "":
			turns = append(turns, message{role(t.Role), text})
		}
	}
	if strings.TrimSpace(question) == "" {
		question = ""
	}
	return turns, question
}

// readable is a message's text; without one, the text among its parts.
func readable(t llm.Message) string {
	if t.Text != "" {
		return t.Text
	}
	var c content
	if json.Unmarshal(t.Parts, &c) != nil {
		return ""
	}
	return string(c)
}

// role is one that every server knows.
func role(r string) string {
	switch r {
	case "assistant", "system":
		return r
	case "developer":
		return "system"
	default:
		return "user"
	}
}

// newest keeps whole messages from the end on while they fit. An answer whose question does not fit goes too: many chat
// templates refuse a conversation that an assistant begins.
func newest(turns []message, room int) []message {
	from := len(turns)
	for from > 0 {
		if room -= cost(turns[from-1].Content); room < 0 {
			break
		}
		from--
	}
	for from < len(turns) && turns[from].Role == "assistant" {
		from++
	}
	return turns[from:]
}

// merge joins neighbours of one role, as they are when an answer failed or a question went to nobody: many chat templates
// refuse two in a row.
func merge(in []message) (out []message) {
	for _, t := range in {
		if n := len(out); n > 0 && out[n-1].Role == t.Role {
			out[n-1].Content += "\n\n" + t.Content
			continue
		}
		out = append(out, t)
	}
	return out
}

// content is text as servers and clients write it: a string, or parts of which those of type "text" are read.
type content string

// UnmarshalJSON takes what is text and passes over the rest.
func (c *content) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil { // null too
		*c = content(text)
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(b, &parts) != nil {
		return nil
	}
	var all strings.Builder
	for _, p := range parts {
		if p.Type == "text" {
			all.WriteString(p.Text)
		}
	}
	*c = content(all.String())
	return nil
}
