package client

import (
	"context"
	"fmt"
	"time"
)

// A phone asks in Beijing, moves to Shanghai, and goes on.
func Example() {
	regions := newServer("beijing", "shanghai") // stands for the real ones
	defer regions.close()

	c, err := New(Config{
		Regions: regions.regions(),
		Token:   func(context.Context) (string, error) { return "dev:alice", nil },
		Device:  "phone",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()

	s, err := c.Session("alice/trip")
	if err != nil {
		fmt.Println(err)
		return
	}
	question, err := s.Send("what is there to see", SendOptions{Ask: true})
	if err != nil {
		fmt.Println(err) // the outbox is full, or cannot be written
		return
	}
	fmt.Println("safe:", question.Wait(ctx, Safe) == nil)
	for st := range s.Watch(ctx) {
		if answers := st.Answers(question.OID()); len(answers) == 1 && answers[0].Closed() {
			fmt.Println("answer:", answers[0].Text)
			break
		}
	}

	if err := c.Move("shanghai"); err != nil {
		fmt.Println(err)
		return
	}
	for st := range s.Watch(ctx) {
		if st.Region == "shanghai" { // resumed by token: nothing is missed, nothing comes twice
			break
		}
	}
	title, err := s.Set("title", "sights")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("safe:", title.Wait(ctx, Safe) == nil)
	st := s.State()
	fmt.Println(st.Region, string(st.Map["title"].JSON), len(st.Log), "entries")

	cancel()
	fmt.Println("ended:", <-ended)
	// Output:
	// safe: true
	// answer: what is there to see
	// safe: true
	// shanghai "sights" 2 entries
	// ended: <nil>
}
