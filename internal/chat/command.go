package chat

import (
	"fmt"
	"slices"
	"strings"
)

// command is what a line says.
type command struct {
	name string // "say", or one of those in commands
	arg  string
}

const say = "say"

// commands in the order /help shows them.
var commands = []struct{ name, arg, help string }{
	{"move", "REGION", "go on in that region"},
	{"cut", "", "drop the connection, as a bad network does; it comes back by itself"},
	{"kill", "REGION", "kill a region of roam dev"},
	{"start", "REGION", "start a killed region of roam dev"},
	{"model", "[NAME]", "the model that answers in this session; - for the default"},
	{"system", "[TEXT]", "what the model is told first; - for nothing"},
	{"title", "[TEXT]", "the session's title; - for none"},
	{"stop", "", "end the answers that run"},
	{"again", "", "ask for the last answer again"},
	{"forget", "", "delete the session, in every region"},
	{"help", "", "this"},
	{"quit", "", "leave"},
}

// needsArg and mayHaveArg say which commands take an argument.
var (
	needsArg   = []string{"move", "kill", "start"}
	mayHaveArg = append([]string{"model", "system", "title"}, needsArg...)
)

// parse makes a command of a line. A message that is to begin with a slash begins with two.
func parse(line string) (command, error) {
	if text, ok := strings.CutPrefix(line, "//"); ok {
		return command{say, "/" + text}, nil
	}
	rest, ok := strings.CutPrefix(line, "/")
	if !ok {
		return command{say, line}, nil
	}
	name, arg, _ := strings.Cut(rest, " ")
	c := command{name, strings.TrimSpace(arg)}
	switch {
	case !known(name):
		return c, fmt.Errorf("there is no command /%s: /help shows all; // begins a message with a slash", cleanLine(name))
	case c.arg == "" && slices.Contains(needsArg, name):
		return c, fmt.Errorf("/%s needs the name of a region", name)
	case c.arg != "" && !slices.Contains(mayHaveArg, name):
		return c, fmt.Errorf("/%s takes nothing after it", name)
	}
	return c, nil
}

func known(name string) bool {
	return slices.ContainsFunc(commands, func(c struct{ name, arg, help string }) bool { return c.name == name })
}

// complete returns what Tab makes of a line: as much as all that fits has in common. switches: there is /kill.
func complete(line string, regions []string, switches bool) string {
	name, arg, spaced := strings.Cut(line, " ")
	if !strings.HasPrefix(name, "/") {
		return line
	}
	var fits []string
	if spaced {
		if slices.Contains(needsArg, name[1:]) {
			fits = fitting(regions, arg, name+" ")
		}
		return common(fits, line)
	}
	for _, c := range commands {
		if (switches || !switchCommand(c.name)) && strings.HasPrefix("/"+c.name, name) {
			fits = append(fits, "/"+c.name+map[bool]string{true: " "}[c.arg != ""])
		}
	}
	return common(fits, line)
}

func switchCommand(name string) bool { return name == "kill" || name == "start" }

func fitting(all []string, prefix, before string) (fits []string) {
	for _, s := range all {
		if strings.HasPrefix(s, prefix) {
			fits = append(fits, before+s)
		}
	}
	return fits
}

func common(fits []string, otherwise string) string {
	if len(fits) == 0 {
		return otherwise
	}
	first := fits[0]
	for _, s := range fits[1:] {
		for !strings.HasPrefix(s, first) {
			first = first[:len(first)-1]
		}
	}
	return first
}

// help is the text of /help.
func help(switches bool) string {
	var b strings.Builder
	for _, c := range commands {
		if switches || !switchCommand(c.name) {
			fmt.Fprintf(&b, "%-16s %s\n", strings.TrimSpace("/"+c.name+" "+c.arg), c.help)
		}
	}
	b.WriteString("own messages: ○ waits  · sent  ✓ stored  ✓✓ safe in another region too\n")
	b.WriteString("enter sends, alt+enter breaks the line, tab completes, ↑ ↓ earlier lines, page keys scroll")
	return b.String()
}
