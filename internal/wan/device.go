package wan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/check"
)

// device is one client: the SDK, and on its connection a tap that notes when what came. If it is watched, a checker that
// believes every frame sits there too.
type device struct {
	t     *talk
	index int // in the talk: of the region that is its home
	home  string
	sdk   *client.Client
	s     *client.Session
	dial  func(region string) dialFunc

	mu   sync.Mutex // guards what follows
	at   string     // the region whose network it is in
	conn client.Conn
	eye  *check.Device
}

// maxOutbox bounds what a device has put and knows not to be safe, in ops: minutes of a cut.
const maxOutbox = 200_000

func newDevice(t *talk, index int, home string, ways []client.Region, dial func(region string) dialFunc, token string, watched bool) (*device, error) {
	d := &device{t: t, index: index, home: home, at: home, dial: dial}
	name := "at-" + home
	if watched {
		d.eye = check.NewDevice(t.user, name)
	}
	var err error
	d.sdk, err = client.New(client.Config{
		Regions: ways, Device: name, Dial: d.connect, MaxOutbox: maxOutbox,
		Token: func(context.Context) (string, error) { return token, nil },
	})
	if err != nil {
		return nil, err
	}
	d.s, err = d.sdk.Session(t.session)
	return d, err
}

func (d *device) connect(ctx context.Context, url string) (client.Conn, error) {
	d.mu.Lock()
	at := d.at
	d.mu.Unlock()
	ws, err := webSocket(ctx, d.dial(at), url)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.conn = socket{ws}
	d.mu.Unlock()
	return newTap(d, socket{ws}), nil
}

// in says whose region's network it is in.
func (d *device) in() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// travel takes it to another region's network. Where the one that it leaves is gone at once, so is its connection.
func (d *device) travel(to string, hard bool) {
	d.mu.Lock()
	d.at = to
	conn := d.conn
	d.mu.Unlock()
	_ = d.sdk.Move(to) // regions are known from the start
	if hard && conn != nil {
		_ = conn.Close(0, "")
	}
}

// socket makes a Conn of a websocket.Conn.
type socket struct{ *websocket.Conn }

func (s socket) Read(ctx context.Context) ([]byte, error) {
	_, b, err := s.Conn.Read(ctx)
	return b, err
}

func (s socket) Write(ctx context.Context, b []byte) error {
	return s.Conn.Write(ctx, websocket.MessageText, b)
}

func (s socket) Close(code int, reason string) error {
	if code == 0 {
		return s.CloseNow()
	}
	return s.Conn.Close(websocket.StatusCode(code), reason)
}

func webSocket(ctx context.Context, dial dialFunc, url string) (*websocket.Conn, error) {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"roam.v1.json"}, HTTPClient: &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }}}})
	if err == nil {
		ws.SetReadLimit(64 << 20)
	}
	return ws, err
}

// tap is a connection of the SDK's.
type tap struct {
	client.Conn
	d    *device
	seen *check.Tap
	came time.Time // what the SDK got last; owned by who reads
}

func newTap(d *device, conn client.Conn) *tap {
	c := &tap{Conn: conn, d: d}
	c.seen = check.NewTap(func(b []byte) { d.took(b, c.came) })
	return c
}

// Read implements client.Conn.
func (c *tap) Read(ctx context.Context) ([]byte, error) {
	c.seen.Asks()
	b, err := c.Conn.Read(ctx)
	if err == nil {
		c.came = time.Now()
		c.seen.Came(b)
	}
	return b, err
}

// Write implements client.Conn.
func (c *tap) Write(ctx context.Context, b []byte) error {
	if !c.seen.Sends(ctx) {
		return net.ErrClosed
	}
	if c.d.eye != nil {
		c.d.mu.Lock()
		c.d.eye.Sent(b)
		c.d.mu.Unlock()
	}
	return c.Conn.Write(ctx, b)
}

// Close implements client.Conn.
func (c *tap) Close(code int, reason string) error {
	c.seen.Leaves()
	return c.Conn.Close(code, reason)
}

// took notes what the SDK took.
func (d *device) took(message []byte, came time.Time) {
	d.got(message, came)
	if d.eye != nil {
		d.mu.Lock()
		d.eye.Got(message)
		d.mu.Unlock()
	}
}

// highest is the last seq that the user of a device that is watched is shown now.
func (d *device) highest() int {
	if d.eye == nil {
		return 0
	}
	log := d.s.State().Log
	if len(log) == 0 {
		return 0
	}
	return int(log[len(log)-1].Seq)
}

// faults is what the device was given against the protocol.
func (d *device) faults() []string {
	if d.eye == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.eye.Faults
}

// came is what the tap reads of a frame.
type came struct {
	T   string   `json:"t"`
	Ops []tapped `json:"ops"`
	Log []tapped `json:"log"`
	At  []tapped `json:"at"`
}

// tapped is what it reads of an op, an entry or a place.
type tapped struct {
	K     string `json:"k"`
	OID   string `json:"oid"`
	Of    string `json:"of"`
	State string `json:"state"`
}

// got notes what came, and when.
func (d *device) got(message []byte, now time.Time) {
	for line := range bytes.Lines(message) {
		var f came
		if !bytes.Contains(line[:min(len(line), 64)], []byte(`"t":"ok"`)) && !bytes.Contains(line, []byte(`"oid"`)) {
			continue
		}
		if json.Unmarshal(line, &f) != nil {
			continue // frames without lists of ops have other fields of these names
		}
		switch f.T {
		case "ok":
			d.t.stored(f.At, now)
		case "delta", "snap":
			d.t.shown(d.index, f.Ops, now)
			d.t.shown(d.index, f.Log, now)
		}
	}
}

// urls are the ways into the regions, a home first.
func (w *world) urls(home string) (all []client.Region) {
	for _, r := range w.regions {
		way := client.Region{Name: r.name, URL: r.nodes[0].url()}
		for _, n := range r.nodes {
			way.URLs = append(way.URLs, n.url())
		}
		if r.name == home {
			all = append([]client.Region{way}, all...)
		} else {
			all = append(all, way)
		}
	}
	return all
}

func (d *device) String() string { return fmt.Sprintf("%s at %s", d.t.session, d.home) }
