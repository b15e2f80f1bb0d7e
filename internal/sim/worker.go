package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/roamsync/roam/dispatch/llm"
	workers "github.com/roamsync/roam/dispatch/worker"
)

// worker is a program that answers questions: the product's worker, and a model that repeats the prompt's words.
type worker struct {
	g      *group
	at     int
	life   int
	up     bool
	stuck  bool // it does nothing, and does not know
	hand   *workers.Hand
	ticker *event
	nonces int
}

func (wk *worker) start() {
	if wk.up {
		return
	}
	wk.up = true
	wk.life++
	w := wk.g.w
	cfg, err := workers.New(workers.Config{
		Region: wk.g.name, Redis: "redis://sim", Dial: wk.g.redis.dial, Now: w.time, LLM: llm.Echo{}, Concurrency: 3,
		Models: []string{"echo"},
		Nonce: func() string {
			wk.nonces++
			return fmt.Sprintf("%s-w%d-%d-%d", wk.g.name[:2], wk.at, wk.life, wk.nonces)
		},
		Draw: func(n int64) int64 { return n / 2 },
	})
	if err == nil {
		wk.hand, err = cfg.Hand(context.Background())
	}
	if err != nil {
		panic(err) // the configuration is ours
	}
	wk.soon(between(wk.g.rng, time.Millisecond, 300*time.Millisecond))
}

// kill ends the program without a word.
func (wk *worker) kill() {
	if !wk.up {
		return
	}
	wk.up = false
	wk.life++
	wk.ticker.cancel()
	wk.hand.Close()
}

// soon has the worker do what there is to do.
func (wk *worker) soon(in time.Duration) {
	if !wk.up || wk.ticker != nil && !wk.ticker.done && wk.ticker.at <= wk.g.w.now+in {
		return
	}
	wk.ticker.cancel()
	wk.ticker = wk.g.w.after(in, wk.step)
}

func (wk *worker) step() {
	if wk.stuck {
		wk.soon(100 * time.Millisecond)
		return
	}
	w := wk.g.w
	wk.g.redis.tick()
	started, _ := wk.hand.Step(w.time()) // an error: Redis is away, and it goes on when that is over
	for _, a := range started {
		wk.answer(a)
	}
	wk.g.redis.wake()
	wk.soon(max(wk.hand.Due().Sub(w.time()), 5*time.Millisecond))
}

// lastWord ends every answer.
const lastWord = "END"

// wholeAnswer says what is wrong with an answer that ended by itself, "" if nothing: all its words are of one attempt, and
// none is missing at its end.
func wholeAnswer(text string) string {
	words := strings.Fields(text)
	if len(words) == 0 {
		return "it is empty"
	}
	last, who, _ := strings.Cut(words[len(words)-1], "·")
	if last != lastWord {
		return "its end is missing"
	}
	for _, word := range words {
		if _, by, _ := strings.Cut(word, "·"); by != who {
			return "it has words of two attempts"
		}
	}
	return ""
}

// answer has the model say its words, one after the other.
func (wk *worker) answer(a *workers.Answer) {
	w, life := wk.g.w, wk.life
	w.counts.Answers++
	w.tell("%s: worker %d answers %s: attempt of %s", wk.g.name, wk.at, a.Job.Run, a.Nonce())
	words := append(strings.Fields(a.Job.Prompt), lastWord)
	pace := between(wk.g.rng, 10*time.Millisecond, 400*time.Millisecond)
	var say func(i int)
	say = func(i int) {
		if !wk.up || wk.life != life {
			return
		}
		if i == len(words) {
			wk.hand.End(a, llm.Result{Fin: "end"}, nil)
		} else if wk.hand.Say(a, words[i]+"·"+a.Nonce()+" ") != nil {
			return
		} else {
			w.after(pace, func() { say(i + 1) })
		}
		wk.soon(0)
	}
	w.after(pace, func() { say(0) })
}
