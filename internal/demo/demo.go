package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/roamsync/roam/client"
)

// Region is where a region takes clients.
type Region struct {
	Name string
	URL  string
}

// Config is what the demo needs.
type Config struct {
	// Regions is at least two; the conversation moves between the first two.
	Regions []Region
	// Token is "dev:NAME" or another token; what follows the last colon owns the session. Empty: "dev:alice".
	Token string
	// Out is where the conversation is shown. Nil: nowhere.
	Out io.Writer
	// Logger is given to the devices. Nil: nothing is logged.
	Logger *slog.Logger
}

func (c *Config) check() error {
	if len(c.Regions) < 2 {
		return errors.New("demo: two regions are needed to move between")
	}
	if c.Token == "" {
		c.Token = "dev:alice"
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	return nil
}

// stage is where the conversation is played. Run's goroutine owns it but for what is guarded.
type stage struct {
	cfg       Config
	screen    *screen
	session   string
	phone     *device
	laptop    *device
	recorders []*recorder

	mu     sync.Mutex
	script Script // guarded by mu
}

// device is one of the user's, with the SDK.
type device struct {
	name    string
	client  *client.Client
	session *client.Session
	notes   int // that it wrote
}

// Run plays the conversation, shows it, and reports what was lost or doubled. It returns when everything it started
// has ended; its error is that the conversation could not be played to its end, or that ctx ended.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.check(); err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	s, err := newStage(cfg)
	if err != nil {
		return Report{}, err
	}
	if err := s.start(ctx, &wg); err != nil {
		return Report{}, fmt.Errorf("demo: %w", err)
	}
	if err := s.play(ctx); err != nil {
		return Report{}, fmt.Errorf("demo: %w", err)
	}
	s.settle(ctx)
	report := Check(s.lines(), s.holdings())
	s.screen.verdict(&report)
	return report, ctx.Err()
}

func newStage(cfg Config) (*stage, error) {
	owner := cfg.Token[strings.LastIndex(cfg.Token, ":")+1:]
	s := &stage{cfg: cfg, session: fmt.Sprintf("%s/demo-%d", owner, time.Now().UnixMilli()), screen: newScreen(cfg)}
	var err error
	if s.phone, err = s.device("phone", cfg.Regions[0], cfg.Regions[1]); err != nil {
		return nil, err
	}
	s.laptop, err = s.device("laptop", cfg.Regions[1], cfg.Regions[0])
	return s, err
}

func (s *stage) device(name string, regions ...Region) (*device, error) {
	cfg := client.Config{Device: name, Agent: "roam-demo", Logger: s.cfg.Logger}
	cfg.Token = func(context.Context) (string, error) { return s.cfg.Token, nil }
	for _, r := range regions {
		cfg.Regions = append(cfg.Regions, client.Region{Name: r.Name, URL: r.URL})
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	session, err := c.Session(s.session)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return &device{name: name, client: c, session: session}, nil
}

// start connects the recorders and the devices, and waits until all of them follow the session.
func (s *stage) start(ctx context.Context, wg *sync.WaitGroup) error {
	for _, region := range s.cfg.Regions {
		r, err := record(ctx, region, s.cfg.Token, s.session)
		if err != nil {
			return err
		}
		s.recorders = append(s.recorders, r)
		wg.Go(func() { r.follow(ctx) })
	}
	for _, d := range []*device{s.phone, s.laptop} {
		wg.Go(func() {
			if err := d.client.Run(ctx); err != nil {
				s.screen.line(s.cfg.Regions[0].Name, d.name, "ended: "+err.Error())
			}
		})
		wg.Go(func() { s.screen.stream(ctx, d) })
	}
	for _, r := range s.recorders {
		if err := r.await(ctx, func() bool { return r.live }); err != nil {
			return err
		}
	}
	for _, d := range []*device{s.phone, s.laptop} {
		if _, err := d.await(ctx, "the session is open", func(st client.State) bool { return st.Live }); err != nil {
			return err
		}
	}
	return nil
}

// stepTimeout bounds each step of the conversation, and the wait for everything to arrive in the end.
const stepTimeout = 30 * time.Second

// await waits until a device sees what is expected.
func (d *device) await(ctx context.Context, what string, ok func(client.State) bool) (client.State, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for st := range d.session.Watch(ctx) {
		if ok(st) {
			return st, nil
		}
		if st.Err != nil {
			return st, fmt.Errorf("%s: %s: %w", d.name, what, st.Err)
		}
	}
	return client.State{}, fmt.Errorf("%s: %s: %w", d.name, what, ctx.Err())
}

// lines is the script so far.
func (s *stage) lines() Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	script := s.script
	script.Messages = append([]Said(nil), script.Messages...)
	return script
}

// settle waits until everyone has everything, as far as can be seen. What does not come in time is for the checker
// to find.
func (s *stage) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	script := s.lines()
	for _, d := range []*device{s.phone, s.laptop} {
		for st := range d.session.Watch(ctx) {
			if len(st.Outbox) == 0 && complete(script, holdingOf(d.name, st), st) {
				break
			}
		}
	}
	for _, r := range s.recorders {
		_ = r.await(ctx, func() bool { return r.complete(script) })
	}
}

// complete reports whether a device has all messages, and all answers are closed.
func complete(script Script, h Holding, st client.State) bool {
	for _, m := range script.Messages {
		if st.Find(m.OID) == nil {
			return false
		}
		if answers := st.Answers(m.OID); m.Asks && (len(answers) == 0 || !answers[0].Closed()) {
			return false
		}
	}
	return h.Title == script.Title
}

func (s *stage) holdings() []Holding {
	all := []Holding{
		holdingOf("phone", s.phone.session.State()),
		holdingOf("laptop", s.laptop.session.State()),
	}
	for _, r := range s.recorders {
		all = append(all, r.holding())
	}
	return all
}
