package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/roamsync/roam/client"
)

const (
	firstQuestion = "I am on the train from Beijing to Shanghai and the tunnel is about to take my network away " +
		"so please tell me slowly word for word what it is that I should not miss when I arrive because whatever you " +
		"have said by then must still be there and whatever you have not said yet must follow without a gap and " +
		"without saying a single word twice 好吗 thank you very much"
	secondQuestion = "Good the network of Shanghai has me now so go on from here and say this once as well"
	title          = "Train to Shanghai"
	// chorus is how many messages each device writes when both do at once.
	chorus = 3
	// cutAt is the part of the first answer, in percent, after which the connection is cut.
	cutAt = 40
)

// play is the conversation.
func (s *stage) play(ctx context.Context) error {
	first, second := s.cfg.Regions[0].Name, s.cfg.Regions[1].Name
	s.screen.title(fmt.Sprintf("The phone asks in %s, the laptop watches in %s", first, second))
	question, err := s.say(ctx, s.phone, firstQuestion, true)
	if err != nil {
		return err
	}
	s.screen.title("In the middle of the answer the phone's network goes, and comes back in " + second)
	if err := s.interrupt(ctx, question, second); err != nil {
		return err
	}
	s.screen.title("It sets a title there and asks again")
	if err := s.entitle(ctx); err != nil {
		return err
	}
	if _, err := s.say(ctx, s.phone, secondQuestion, true); err != nil {
		return err
	}
	s.screen.title("Both devices write at once, in one region")
	if err := s.together(ctx); err != nil {
		return err
	}
	s.screen.title("The phone moves back to " + first + ", and both write at once in two regions")
	if err := s.move(ctx, s.phone, first, ""); err != nil {
		return err
	}
	return s.together(ctx)
}

// say puts a message, notes it in the script and shows how it fares.
func (s *stage) say(ctx context.Context, d *device, text string, ask bool) (string, error) {
	region, start := d.client.Status().Region, time.Now()
	s.screen.line(region, d.name, "▸ "+text)
	r, err := d.session.Send(text, client.SendOptions{Ask: ask})
	if err != nil {
		return "", fmt.Errorf("%s: send: %w", d.name, err)
	}
	s.mu.Lock()
	s.script.Messages = append(s.script.Messages, Said{OID: r.OID(), Text: text, Asks: ask, Device: d.name})
	s.mu.Unlock()
	return r.OID(), s.receipt(ctx, d, region, r, start)
}

// receipt shows when an op is stored; whether it becomes safe is seen in the end.
func (s *stage) receipt(ctx context.Context, d *device, region string, r *client.Receipt, start time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := r.Wait(ctx, client.Stored); err != nil {
		return fmt.Errorf("%s: wait for the ok: %w", d.name, err)
	}
	s.screen.line(region, d.name, fmt.Sprintf("✓ ok after %s: on disk in %s", since(start), region))
	return nil
}

// entitle sets the title.
func (s *stage) entitle(ctx context.Context) error {
	region, start := s.phone.client.Status().Region, time.Now()
	s.screen.line(region, s.phone.name, fmt.Sprintf("▸ title := %q", title))
	r, err := s.phone.session.Set("title", title)
	if err != nil {
		return fmt.Errorf("phone: set the title: %w", err)
	}
	s.mu.Lock()
	s.script.Title = title
	s.mu.Unlock()
	return s.receipt(ctx, s.phone, region, r, start)
}

// interrupt cuts the phone's connection in the middle of an answer; it goes on in another region.
func (s *stage) interrupt(ctx context.Context, question, region string) error {
	middle := len(firstQuestion) * cutAt / 100
	from := s.phone.client.Status().Region
	_, err := s.phone.await(ctx, "the middle of the answer", func(st client.State) bool {
		return held(st, question) >= middle
	})
	if err != nil {
		return err
	}
	s.phone.client.Cut()
	at := held(s.phone.session.State(), question)
	s.screen.event(from, s.phone.name, fmt.Sprintf("✂ %s connection cut at byte %d of %d", from, at, len(firstQuestion)))
	if err := s.move(ctx, s.phone, region, fmt.Sprintf(" at byte %d, the rest follows", at)); err != nil {
		return err
	}
	_, err = s.phone.await(ctx, "the rest of the answer", func(st client.State) bool {
		answers := st.Answers(question)
		return len(answers) > 0 && answers[0].Closed()
	})
	return err
}

// held is how many bytes of the answer to a question a device has.
func held(st client.State, question string) int {
	if answers := st.Answers(question); len(answers) > 0 {
		return len(answers[0].Text)
	}
	return 0
}

func (s *stage) move(ctx context.Context, d *device, region, where string) error {
	start := time.Now()
	if err := d.client.Move(region); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	_, err := d.await(ctx, "resume in "+region, func(st client.State) bool { return st.Live && st.Region == region })
	if err == nil {
		s.screen.event(region, d.name, fmt.Sprintf("%s: resumed in %s%s", region, since(start), where))
	}
	return err
}

// together has both devices write at once.
func (s *stage) together(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for _, d := range []*device{s.phone, s.laptop} {
		wg.Go(func() {
			for range chorus {
				d.notes++
				if _, err := s.say(ctx, d, fmt.Sprintf("note %d from the %s", d.notes, d.name), false); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func since(t time.Time) string {
	return fmt.Sprintf("%.1f ms", float64(time.Since(t).Microseconds())/1000)
}

// holdingOf is what a device's state amounts to.
func holdingOf(name string, st client.State) Holding {
	h := Holding{Name: name}
	for _, e := range st.Log {
		h.Entries = append(h.Entries, Held{OID: e.OID, Of: e.Of, Seq: e.Seq, At: e.At, Text: e.Text})
	}
	_ = json.Unmarshal(st.Map["title"].JSON, &h.Title)
	return h
}

// indent begins the further rows of a text.
const indent = "  "

// words cuts a text before its last space, so that a line ends with a whole word.
func words(text string) string {
	if i := strings.LastIndexByte(text, ' '); i > len(indent) {
		return text[:i]
	}
	return text
}
