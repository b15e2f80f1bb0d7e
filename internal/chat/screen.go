package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

const (
	// maxInput bounds the lines of the input that are shown, and maxPast the lines that can be had again.
	maxInput = 8
	maxPast  = 200
	// olderEntries is how many earlier entries are asked for at a time.
	olderEntries = 50
)

// Messages of the program besides those of the terminal.
type (
	// reply is what a command that takes long has come to.
	reply struct {
		text string
		err  error
	}
	// switched tells that the regions run under roam dev.
	switched struct{}
)

// deeds are what a screen can have done. They do not block, but for doing, which does so in a tea.Cmd.
type deeds struct {
	do    func(command) (string, error)
	older func()
}

// screen is the full-screen mode: a tea.Model.
type screen struct {
	page   *page
	view   *view
	input  textarea.Model
	deeds  deeds
	height int
	scroll int
	past   []string
	at     int    // in past; len(past): the draft
	draft  string // what was typed when the past was gone to
	quit   bool
}

func newScreen(session, user, device string, d deeds) *screen {
	in := textarea.New()
	in.Prompt, in.Placeholder, in.ShowLineNumbers = "> ", "a message, or /help", false
	in.DynamicHeight, in.MinHeight, in.MaxHeight = true, 1, maxInput
	in.CharLimit = maxLine
	in.KeyMap.InsertNewline.SetKeys("alt+enter", "shift+enter", "ctrl+j")
	in.SetStyles(inputStyles(in.Styles()))
	in.SetVirtualCursor(false)
	in.Focus()
	s := &screen{page: newPage(), view: &view{session: session, user: user, device: device}, input: in, deeds: d}
	s.resize(80, 24)
	return s
}

// inputStyles leaves the terminal its own colours.
func inputStyles(s textarea.Styles) textarea.Styles {
	s.Focused.CursorLine, s.Focused.Text, s.Focused.Prompt = lipgloss.NewStyle(), lipgloss.NewStyle(), lipgloss.NewStyle()
	s.Focused.Placeholder, s.Cursor.Color = noteStyle, nil
	return s
}

func (s *screen) resize(width, height int) {
	s.view.resize(width)
	s.height = height
	s.input.SetWidth(s.view.width)
}

// Init implements tea.Model.
func (s *screen) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch m := msg.(type) {
	case tea.WindowSizeMsg:
		s.resize(m.Width, m.Height)
	case snapshot:
		s.page.update(m)
	case switched:
		s.page.switches = true
	case reply:
		s.tell(m)
	case tea.KeyPressMsg:
		return s, s.key(m)
	default:
		var cmd tea.Cmd
		s.input, cmd = s.input.Update(msg)
		return s, cmd
	}
	return s, nil
}

func (s *screen) tell(r reply) {
	if r.err != nil {
		s.page.add(r.err.Error(), true)
	} else if r.text != "" {
		s.page.add(r.text, false)
	}
}

func (s *screen) key(k tea.KeyPressMsg) (cmd tea.Cmd) {
	page := max(1, s.height-s.input.Height()-2)
	switch name := k.String(); name {
	case "ctrl+c":
		return s.leave()
	case "ctrl+d":
		if s.input.Value() == "" {
			return s.leave()
		}
	case "enter":
		return s.enter()
	case "tab":
		s.input.SetValue(complete(s.input.Value(), s.page.now.regions, s.page.switches))
		return nil
	case "pgup":
		s.scrollBy(page)
		return nil
	case "pgdown":
		s.scrollBy(-page)
		return nil
	case "up", "down":
		if s.recall(name) {
			return nil
		}
	}
	s.input, cmd = s.input.Update(k)
	return cmd
}

func (s *screen) leave() tea.Cmd {
	s.quit = true
	return tea.Quit
}

// scrollBy scrolls; at the top earlier entries are asked for.
func (s *screen) scrollBy(lines int) {
	wanted := max(0, s.scroll+lines)
	_, s.scroll = s.view.body(s.page, s.bodyHeight(), wanted)
	if s.scroll < wanted && s.page.now.More {
		s.deeds.older()
	}
}

// recall goes through the past when the cursor cannot go on in that direction.
func (s *screen) recall(key string) bool {
	switch {
	case key == "up" && s.input.Line() == 0 && s.at > 0:
		if s.at == len(s.past) {
			s.draft = s.input.Value()
		}
		s.at--
	case key == "down" && s.input.Line() == s.input.LineCount()-1 && s.at < len(s.past):
		s.at++
	default:
		return false
	}
	text := s.draft
	if s.at < len(s.past) {
		text = s.past[s.at]
	}
	s.input.SetValue(text)
	return true
}

// enter takes what was typed. It stays if it cannot be done.
func (s *screen) enter() tea.Cmd {
	text := s.input.Value()
	if strings.TrimSpace(text) == "" {
		return nil
	}
	c, err := parse(text)
	if err == nil && switchCommand(c.name) && !s.page.switches {
		err = fmt.Errorf("/%s works where regions run under roam dev", c.name)
	}
	if err != nil {
		s.page.add(err.Error(), true)
		return nil
	}
	s.past = append(s.past, text)
	s.past = s.past[max(0, len(s.past)-maxPast):]
	s.at, s.draft, s.scroll = len(s.past), "", 0
	s.input.Reset()
	return s.act(c)
}

// act does what a command says: at once if it is quick, so that messages stay in order.
func (s *screen) act(c command) tea.Cmd {
	switch {
	case c.name == "quit":
		return s.leave()
	case c.name == "help":
		s.page.add(help(s.page.switches), false)
	case switchCommand(c.name):
		return func() tea.Msg {
			text, err := s.deeds.do(c)
			return reply{text, err}
		}
	default:
		text, err := s.deeds.do(c)
		s.tell(reply{text, err})
	}
	return nil
}

func (s *screen) bodyHeight() int { return max(1, s.height-s.input.Height()-2) }

// View implements tea.Model.
func (s *screen) View() tea.View {
	body, scroll := s.view.body(s.page, s.bodyHeight(), s.scroll)
	rule := strings.Repeat("─", s.view.width)
	if scroll > 0 {
		rule = fmt.Sprintf("─ %d lines below (page down) ", scroll)
	}
	above := append(append([]string{s.view.header(s.page)}, body...), markStyle.Render(rule))
	v := tea.NewView(strings.Join(append(above, s.input.View()), "\n"))
	v.AltScreen = true
	v.WindowTitle = "roam " + s.view.session
	if region := s.page.region; region != "" {
		v.WindowTitle += " · " + cleanLine(region)
	}
	if c := s.input.Cursor(); c != nil {
		c.Y += len(above)
		v.Cursor = c
	}
	return v
}

// fullScreen is the mode for terminals. It returns when the user leaves or ctx ends, with the terminal as it was.
func fullScreen(ctx context.Context, r *room, o *Options, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	s := newScreen(o.Session, userOf(o.Token), o.Device, deeds{
		do:    func(c command) (string, error) { return r.do(ctx, c) },
		older: func() { r.session.Older(olderEntries) },
	})
	p := tea.NewProgram(s, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler())
	wg.Go(func() { r.watch(ctx, func(s snapshot) { p.Send(s) }) })
	wg.Go(func() {
		if r.control.await(ctx, r.client.Regions) {
			p.Send(switched{})
		}
	})
	_, err := p.Run()
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return nil
	}
	return err
}
