package openai

import (
	"fmt"
	"unicode/utf8"
)

// Prompts are measured in twelfths of a token. Vendors have different tokenizers, so none is asked: the weights are above
// what those in use need for prose, code and CJK text, and adding them up is cheap. DESIGN.md has the comparison.
const (
	unit = 12
	// perMessage is what a chat template adds to a message: role and separators.
	perMessage = 8 * unit
)

// weigh estimates a character from above.
func weigh(r rune) int {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == ' ':
		return unit / 3
	case r < utf8.RuneSelf: // digits may be a token each
		return unit
	case r < 0x800:
		return unit
	case r < 0x10000:
		return unit * 3 / 2
	default:
		return unit * 3
	}
}

// cost estimates a message.
func cost(text string) int {
	n := perMessage
	for _, r := range text {
		n += weigh(r)
	}
	return n
}

// tokens is a cost in whole tokens.
func tokens(cost int) int { return (cost + unit - 1) / unit }

// cutMark stands where a question was cut; the number is its longest.
const cutMark = "\n[… %d characters left out …]\n"

// cutMiddle shortens a text so that it costs at most limit: its beginning and its end stay.
func cutMiddle(text string, limit int) string {
	room := max(limit-cost(fmt.Sprintf(cutMark, len(text))), 0)
	head := reach(room/2, text, utf8.DecodeRuneInString, func(s string, n int) string { return s[n:] })
	rest := text[head:]
	tail := reach(room-room/2, rest, utf8.DecodeLastRuneInString, func(s string, n int) string { return s[:len(s)-n] })
	gone := rest[:len(rest)-tail]
	return text[:head] + fmt.Sprintf(cutMark, utf8.RuneCountInString(gone)) + rest[len(rest)-tail:]
}

// reach is how many bytes from one end of a text cost at most room.
func reach(room int, text string, next func(string) (rune, int), drop func(string, int) string) (size int) {
	for text != "" {
		r, n := next(text)
		if room -= weigh(r); room < 0 {
			break
		}
		size += n
		text = drop(text, n)
	}
	return size
}
