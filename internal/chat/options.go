package chat

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/roamsync/roam/client"
)

// Options is what `roam chat` is told. The tags are the flags: names, defaults and help.
type Options struct {
	Session string `arg:"" help:"Session: owner/name, or only the name if the token says whose it is."`

	URL      []string      `name:"url" required:"" placeholder:"URL,..." help:"WebSocket URLs of regions, as ws://127.0.0.1:8080/v1/connect; the path may be left out. The first is connected to; regions name the others."`
	Token    string        `required:"" placeholder:"TOKEN" help:"Client token. Better in the environment: arguments are seen by everyone on the machine."`
	Device   string        `default:"terminal" placeholder:"NAME" help:"Name of this device, as others see it."`
	NoOutbox bool          `help:"Do not keep messages on disk until they are safe."`
	StateDir string        `placeholder:"DIR" help:"Directory of the outbox. Default: roam in XDG_STATE_HOME, or else ~/.local/state/roam."`
	History  int           `default:"20" help:"Without a terminal: how many earlier entries to print first."`
	Wait     time.Duration `default:"5m" help:"Without a terminal: how long the connection, a command, and after the last line everything sent and answered may take."`
}

const connectPath = "/v1/connect"

// check refuses what cannot work, naming the flag, and completes what may be left out.
func (o *Options) check() error {
	var errs []error
	if o.Token == "" {
		errs = append(errs, errors.New("--token is required"))
	}
	if len(o.URL) == 0 {
		errs = append(errs, errors.New("--url is required"))
	}
	for i, s := range o.URL {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
			errs = append(errs, fmt.Errorf("--url %q: a ws:// or wss:// URL is needed", s))
			continue
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = connectPath
		}
		o.URL[i] = u.String()
	}
	if o.History < 0 {
		errs = append(errs, fmt.Errorf("--history %d: not below 0", o.History))
	}
	if o.Wait <= 0 {
		errs = append(errs, fmt.Errorf("--wait %s: more than 0", o.Wait))
	}
	return errors.Join(append(errs, o.checkSession())...)
}

func (o *Options) checkSession() error {
	if !strings.Contains(o.Session, "/") {
		owner := userOf(o.Token)
		if owner == "" {
			return fmt.Errorf("SESSION %q: the token does not say whose it is, so owner/name is needed", o.Session)
		}
		o.Session = owner + "/" + o.Session
	}
	if !client.ValidSession(o.Session) {
		return fmt.Errorf("SESSION %q: %w", o.Session, client.ErrSession)
	}
	return nil
}

// userOf is the user that a token is for as far as one can tell without its key: who is right is the region's to say.
func userOf(token string) string {
	if name, ok := strings.CutPrefix(token, "dev:"); ok {
		return name
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct {
		Sub string `json:"sub"`
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &claims) != nil {
		return ""
	}
	return claims.Sub
}
