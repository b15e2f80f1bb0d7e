package wan

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"time"
)

// The picture, in pixels.
const (
	panelWidth, panelHeight = 840, 120
	left, right             = 70, 20
	gap                     = 66 // above each panel: its title
	head                    = 64
	lowest, highest         = 1.0, 100_000.0 // ms, of the logarithmic axis
	buckets                 = 168            // of a panel's time: 5 pixels each
)

// Picture draws the lag over time of every scenario, one below the other: an SVG.
func (r *Report) Picture(w io.Writer) {
	height := head + len(r.Lags)*(panelHeight+gap) + 30
	width := left + panelWidth + right
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(w, `<text x="%d" y="24" font-size="16">From when a message was due until a client of another region was shown it</text>`+"\n", left)
	x := float64(left)
	for _, l := range []struct{ colour, what string }{{p50Colour, "median"}, {p99Colour, "99 of 100"}, {maxColour, "latest"}, {delayColour, fmt.Sprintf("one-way delay D = %s", r.Config.Delay)}} {
		fmt.Fprintf(w, `<line x1="%g" y1="44" x2="%g" y2="44" stroke="%s" stroke-width="2.5"/><text x="%g" y="48">%s</text>`+"\n", x, x+24, l.colour, x+30, html.EscapeString(l.what))
		x += 60 + 7*float64(len(l.what))
	}
	fmt.Fprintf(w, `<rect x="%g" y="37" width="24" height="14" fill="%s"/><text x="%g" y="48">something is wrong</text>`+"\n", x, troubleColour, x+30)
	for i := range r.Lags {
		r.panel(w, &r.Lags[i], float64(head+i*(panelHeight+gap)+gap-22))
	}
	fmt.Fprintln(w, "</svg>")
}

const (
	p50Colour     = "#1b7837"
	p99Colour     = "#2166ac"
	maxColour     = "#b2182b"
	delayColour   = "#888888"
	troubleColour = "#fde0c5"
)

// height of a lag above the bottom of a panel.
func lagY(top, ms float64) float64 {
	share := math.Log10(min(max(ms, lowest), highest)/lowest) / math.Log10(highest/lowest)
	return top + panelHeight*(1-share)
}

func (r *Report) panel(w io.Writer, l *Lag, top float64) {
	length := l.length()
	at := func(t time.Duration) float64 { return left + panelWidth*min(max(t.Seconds()/length.Seconds(), 0), 1) }
	fmt.Fprintf(w, `<text x="%d" y="%g" font-size="13"><tspan font-weight="bold">%s</tspan>: %s</text>`+"\n", left, top-8, l.Scenario.Name, html.EscapeString(l.Scenario.What()))
	for _, t := range troubles(l.Scenario) {
		fmt.Fprintf(w, `<rect x="%.1f" y="%g" width="%.1f" height="%d" fill="%s"/>`+"\n", at(t[0]), top, max(1, at(t[1])-at(t[0])), panelHeight, troubleColour)
	}
	for ms, label := range map[float64]string{1: "1 ms", 10: "10 ms", 100: "100 ms", 1000: "1 s", 10_000: "10 s", 100_000: "100 s"} {
		y := lagY(top, ms)
		fmt.Fprintf(w, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y, left+panelWidth, y, left-8, y+4, label)
	}
	for s := 0.0; s <= length.Seconds(); s += tickOf(length) {
		x := at(time.Duration(s * float64(time.Second)))
		fmt.Fprintf(w, `<line x1="%.1f" y1="%g" x2="%.1f" y2="%g" stroke="#444"/><text x="%.1f" y="%g" text-anchor="middle">%g s</text>`+"\n", x, top+panelHeight, x, top+panelHeight+4, x, top+panelHeight+17, s)
	}
	d := lagY(top, float64(r.Config.Delay)/float64(time.Millisecond))
	fmt.Fprintf(w, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="1.5" stroke-dasharray="6 4"/>`+"\n", left, d, left+panelWidth, d, delayColour)
	for _, line := range []struct {
		colour string
		of     func(spread) time.Duration
	}{{maxColour, func(s spread) time.Duration { return s.max }}, {p99Colour, func(s spread) time.Duration { return s.p99 }}, {p50Colour, func(s spread) time.Duration { return s.p50 }}} {
		fmt.Fprintf(w, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, line.colour)
		for i, s := range l.spreads(length) {
			if s.n > 0 {
				fmt.Fprintf(w, "%.1f,%.1f ", left+(float64(i)+0.5)*panelWidth/buckets, lagY(top, float64(line.of(s))/float64(time.Millisecond)))
			}
		}
		fmt.Fprintln(w, `"/>`)
	}
	fmt.Fprintf(w, `<rect x="%d" y="%g" width="%d" height="%d" fill="none" stroke="#444"/>`+"\n", left, top, panelWidth, panelHeight)
}

// length of a panel is that of the load.
func (l *Lag) length() time.Duration {
	most := time.Second
	for _, s := range l.Samples {
		most = max(most, s.due)
	}
	return most
}

// spreads are those of equal parts of the time.
func (l *Lag) spreads(length time.Duration) []spread {
	var parts [buckets][]sample
	for _, s := range l.Samples {
		if i := int(float64(s.due) / float64(length) * buckets); i >= 0 {
			i = min(i, buckets-1)
			parts[i] = append(parts[i], s)
		}
	}
	all := make([]spread, buckets)
	for i := range parts {
		all[i] = spreadOf(parts[i])
	}
	return all
}

// tickOf is the time between the marks of the axis, in seconds.
func tickOf(length time.Duration) float64 {
	for _, s := range []float64{1, 2, 5, 10, 20, 30, 60, 120} {
		if length.Seconds()/s <= 12 {
			return s
		}
	}
	return 300
}

// troubles are the times in which something is wrong, by a scenario's acts.
func troubles(sc *Scenario) (all [][2]time.Duration) {
	open := map[string]time.Duration{}
	for _, a := range sc.Acts {
		key := fmt.Sprint("way", a.From, a.To)
		begins := a.Shape != Shape{}
		if a.Do != Set {
			key, begins = fmt.Sprint("region", a.From), a.Do == Kill || a.Do == Skew && a.Offset != 0
		}
		since, wrong := open[key]
		switch {
		case begins && !wrong:
			open[key] = a.At
		case !begins && wrong && a.Do != Wipe:
			all = append(all, [2]time.Duration{since, a.At})
			delete(open, key)
		}
	}
	for _, since := range open {
		all = append(all, [2]time.Duration{since, sc.Length})
	}
	slices.SortFunc(all, func(a, b [2]time.Duration) int { return int(a[0] - b[0]) })
	return all
}
