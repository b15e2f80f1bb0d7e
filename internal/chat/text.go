package chat

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text harmless to print: line breaks stay and tabs become blanks; whatever else a terminal would obey, or that
// shows text in another order than it is in, becomes a visible sign.
func clean(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\t", "    ", "\u2028", "\n", "\u2029", "\n").Replace(s)
	return strings.Map(harmless, s)
}

func harmless(r rune) rune {
	switch {
	case r == '\n':
		return r
	case r < ' ':
		return 0x2400 + r // its picture
	case r == 0x7f:
		return 0x2421
	case r == utf8.RuneError, unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return utf8.RuneError
	}
	return r
}

// cleanLine is clean for what belongs on one line.
func cleanLine(s string) string { return strings.ReplaceAll(clean(s), "\n", " ") }
