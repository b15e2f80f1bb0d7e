package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Said is a message that was put, or the title.
type Said struct {
	OID    string
	Text   string
	Asks   bool   // one answer is owed: the echo of Text
	Device string // who put it
}

// Script is everything that was put.
type Script struct {
	Messages []Said
	Title    string // empty: none was set
}

// Held is an entry that somebody holds.
type Held struct {
	OID  string
	Of   string // of an answer: the question's oid
	Seq  uint64
	At   string
	Text string
}

// Holding is what a device or a recorder has at the end.
type Holding struct {
	Name    string
	Entries []Held // in the order it would show them; an entry that it was given twice is there twice
	Title   string
	// Doubled and Missing are bytes of answers that came twice or never, where the holder watched the stream itself.
	Doubled, Missing int
}

// Report is what the demo found.
type Report struct {
	Messages, Answers int // that were put, and owed
	Bytes             int // of answers owed
	Holders           []Count
	Lost              int // ops, answers and bytes of answers that somebody lacks
	Duplicated        int // ops, answers and bytes that somebody has more than once
	Disordered        int // entries that somebody has at another place than the others
	Problems          []string
}

// Count is one holder's line of the table.
type Count struct {
	Name                         string
	Messages, Answers, Bytes     int
	Lost, Duplicated, Disordered int
}

// OK reports whether nothing was lost, doubled or out of order.
func (r *Report) OK() bool { return r.Lost == 0 && r.Duplicated == 0 && r.Disordered == 0 }

// maxProblems bounds the problems that are told one by one.
const maxProblems = 20

// Check compares what every holder has with what was put.
func Check(script Script, holdings []Holding) Report {
	r := Report{Messages: len(script.Messages)}
	for _, m := range script.Messages {
		if m.Asks {
			r.Answers++
			r.Bytes += len(Echo(m.Text))
		}
	}
	if len(holdings) == 0 {
		r.Lost = r.Messages + r.Answers
		return r
	}
	for _, h := range holdings {
		c := checker{report: &r, holding: h, count: Count{Name: h.Name}}
		c.run(script, holdings[0])
		r.Holders = append(r.Holders, c.count)
		r.Lost += c.count.Lost
		r.Duplicated += c.count.Duplicated
		r.Disordered += c.count.Disordered
	}
	return r
}

// Echo is the echo worker's answer to a prompt.
func Echo(prompt string) string { return strings.Join(strings.Fields(prompt), " ") }

// checker goes through one holding.
type checker struct {
	report  *Report
	holding Holding
	count   Count
}

func (c *checker) run(script Script, first Holding) {
	expected := map[string]bool{}
	for _, m := range script.Messages {
		expected[m.OID] = true
		c.message(m)
		if m.Asks {
			c.answer(m)
		}
	}
	c.strangers(expected)
	c.order(first)
	if c.holding.Title != script.Title {
		c.problem(&c.count.Lost, 1, "has the title %q, not %q", c.holding.Title, script.Title)
	}
	if n := c.holding.Doubled; n > 0 {
		c.problem(&c.count.Duplicated, n, "was sent %d bytes of answers twice", n)
	}
	if n := c.holding.Missing; n > 0 {
		c.problem(&c.count.Lost, n, "was not sent %d bytes of answers in their turn", n)
	}
}

func (c *checker) problem(counter *int, n int, format string, args ...any) {
	*counter += n
	if len(c.report.Problems) < maxProblems {
		c.report.Problems = append(c.report.Problems, c.holding.Name+" "+fmt.Sprintf(format, args...))
	}
}

func (c *checker) find(is func(Held) bool) (found []Held) {
	for _, h := range c.holding.Entries {
		if is(h) {
			found = append(found, h)
		}
	}
	return found
}

func (c *checker) message(m Said) {
	found := c.find(func(h Held) bool { return h.OID == m.OID })
	c.copies(len(found), "message "+m.OID)
	for _, h := range found {
		if h.Text != m.Text {
			c.problem(&c.count.Lost, 1, "has message %s as %q, not %q", m.OID, h.Text, m.Text)
		}
	}
	c.count.Messages += min(1, len(found))
}

// copies counts an entry that should be there once.
func (c *checker) copies(n int, what string) {
	switch {
	case n == 0:
		c.problem(&c.count.Lost, 1, "lacks %s", what)
	case n > 1:
		c.problem(&c.count.Duplicated, n-1, "has %s %d times", what, n)
	}
}

// answer compares an answer's bytes: those that are not in the longest common subsequence are lost or doubled.
func (c *checker) answer(m Said) {
	found := c.find(func(h Held) bool { return h.Of == m.OID })
	c.copies(len(found), "the answer to "+m.OID)
	want := Echo(m.Text)
	for _, h := range found {
		c.count.Bytes += len(h.Text)
		if h.Text == want {
			continue
		}
		same := common(h.Text, want)
		if n := len(want) - same; n > 0 {
			c.problem(&c.count.Lost, n, "lacks %d bytes of the answer to %s", n, m.OID)
		}
		if n := len(h.Text) - same; n > 0 {
			c.problem(&c.count.Duplicated, n, "has %d bytes too many in the answer to %s", n, m.OID)
		}
	}
	c.count.Answers += min(1, len(found))
}

// common is the length of the longest common subsequence.
func common(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range len(a) {
		diagonal := 0
		for j := range len(b) {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

// strangers counts entries that nobody put.
func (c *checker) strangers(expected map[string]bool) {
	for _, h := range c.find(func(h Held) bool { return !expected[h.OID] && !expected[h.Of] }) {
		c.problem(&c.count.Duplicated, 1, "has %s %q, which nobody put", h.OID, h.Text)
	}
}

// order counts entries that are not where the first holder has them, or not sorted by place.
func (c *checker) order(first Holding) {
	sorted := slices.IsSortedFunc(c.holding.Entries, func(a, b Held) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.At, b.At))
	})
	if !sorted {
		c.problem(&c.count.Disordered, 1, "does not show its entries by (seq, at)")
	}
	place := map[string]int{}
	for i, h := range dedupe(first.Entries) {
		place[h.OID] = i
	}
	last := -1
	for _, h := range dedupe(c.holding.Entries) {
		i, ok := place[h.OID]
		if ok && i < last {
			c.problem(&c.count.Disordered, 1, "has %s (%q) after what follows it at %s", h.OID, h.Text, first.Name)
		}
		last = max(last, i)
	}
}

func dedupe(entries []Held) []Held {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(entries), func(h Held) bool {
		again := seen[h.OID]
		seen[h.OID] = true
		return again
	})
}
