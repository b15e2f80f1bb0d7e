package client

import "time"

// bucket keeps frames below a region's rate: tokens up to one second's worth. The zero value lets everything pass.
type bucket struct {
	rate   float64 // frames per second; 0: any
	tokens float64
	last   time.Time
}

func newBucket(rate float64, now time.Time) bucket {
	if rate <= 0 {
		return bucket{}
	}
	rate = max(1, rate*rateShare)
	return bucket{rate: rate, tokens: rate, last: now}
}

// rateShare of what a region allows is used: it counts pongs too, and its clock is not ours.
const rateShare = 0.8

// spend takes tokens for up to n frames and returns for how many.
func (b *bucket) spend(now time.Time, n int) int {
	if b.rate == 0 {
		return n
	}
	b.tokens = min(b.rate, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	n = min(n, int(b.tokens))
	b.tokens -= float64(n)
	return n
}

// at is when the next token comes.
func (b *bucket) at(now time.Time) time.Time {
	if b.rate == 0 || b.tokens >= 1 {
		return now
	}
	return b.last.Add(time.Duration((1 - b.tokens) / b.rate * float64(time.Second))).Add(time.Millisecond)
}
