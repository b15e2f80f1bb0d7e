package bubble

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/roamsync/roam/client"
	"github.com/roamsync/roam/internal/check"
	"github.com/roamsync/roam/internal/memnet"
)

// prompt is how long an ok may take in a region that nothing is wrong with, whatever is wrong elsewhere; healing is for how
// long a region counts as troubled after something was wrong in it.
const (
	prompt  = 3 * time.Second
	healing = 15 * time.Second
)

// device is a user's client: the real SDK, and on its connection a checker that believes every frame.
type device struct {
	w       *world
	user    string
	name    string
	session string
	place   string
	sdk     *client.Client
	s       *client.Session
	cancel  context.CancelFunc
	done    chan error
	doctor  func([]byte) []byte // if set, changes what comes; only planted bugs do

	mu     sync.Mutex // guards what follows
	eye    *check.Device
	sentAt map[string]time.Time // by oid: when it was put on this connection
	after  map[string]int64     // by oid: the highest seq that the user was shown when it was put
	region string               // of the connection
	count  int
}

// newDevice is a client that starts in one of the regions, and knows the others.
func (w *world) newDevice(user, name, session, home string) *device {
	return w.newDeviceOf(user, name, session, w.urls(home))
}

// newDeviceOf is a client that is told of regions as a user would tell it.
func (w *world) newDeviceOf(user, name, session string, regions []client.Region) *device {
	d := &device{w: w, user: user, name: name, session: session, place: "device/" + name, done: make(chan error, 1),
		doctor: w.doctor, eye: check.NewDevice(user, name), sentAt: map[string]time.Time{}, after: map[string]int64{}}
	d.eye.Stored = d.stored
	var err error
	d.sdk, err = client.New(client.Config{
		Regions: regions, Device: name, Dial: d.dial,
		Token: func(context.Context) (string, error) { return "dev:" + user, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if d.s, err = d.sdk.Session(session); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { d.done <- d.sdk.Run(ctx) }()
	w.devices = append(w.devices, d)
	return d
}

func (w *world) urls(home string) (all []client.Region) {
	for _, s := range w.regions {
		g := client.Region{Name: s.name, URL: s.nodes[0].url()}
		for _, n := range s.nodes {
			g.URLs = append(g.URLs, n.url())
		}
		if s.name == home {
			all = append([]client.Region{g}, all...)
		} else {
			all = append(all, g)
		}
	}
	return all
}

func (n *node) url() string { return "ws://" + n.opts.ClientAddr + "/v1/connect" }

// httpFrom is an HTTP client at a place of the network.
func (w *world) httpFrom(place string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return w.net.DialFunc(place)(ctx, addr) }}}
}

func (w *world) regionAt(url string) string {
	for _, s := range w.regions {
		for _, n := range s.nodes {
			if n.url() == url {
				return s.name
			}
		}
	}
	return ""
}

func (w *world) webSocket(ctx context.Context, place, url string) (*websocket.Conn, error) {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"roam.v1.json"}, HTTPClient: w.httpFrom(place)})
	if err == nil {
		ws.SetReadLimit(64 << 20)
	}
	return ws, err
}

func (d *device) dial(ctx context.Context, url string) (client.Conn, error) {
	ws, err := d.w.webSocket(ctx, d.place, url)
	if err != nil {
		return nil, err
	}
	return &tap{d: d, ws: ws, region: d.w.regionAt(url), seen: check.NewTap(d.took)}, nil
}

// tap is a connection of the SDK's whose frames the checker sees too.
type tap struct {
	d      *device
	ws     *websocket.Conn
	region string
	seen   *check.Tap
	begun  bool // owned by who writes
}

// Read implements client.Conn.
func (c *tap) Read(ctx context.Context) ([]byte, error) {
	c.seen.Asks()
	_, b, err := c.ws.Read(ctx)
	if err == nil && c.d.doctor != nil {
		b = c.d.doctor(b)
	}
	if err == nil {
		c.seen.Came(b)
	}
	return b, err
}

// took has the checker see what the SDK took.
func (d *device) took(message []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.eye.Got(message)
}

// Write implements client.Conn.
func (c *tap) Write(ctx context.Context, b []byte) error {
	if !c.seen.Sends(ctx) {
		return net.ErrClosed
	}
	c.d.sending(c, b)
	return c.ws.Write(ctx, websocket.MessageText, b)
}

// Close implements client.Conn.
func (c *tap) Close(code int, reason string) error {
	c.seen.Leaves()
	if code == 0 {
		return c.ws.CloseNow()
	}
	return c.ws.Close(websocket.StatusCode(code), reason)
}

// sending notes what goes out, and when. What was put on the connection before counts no more.
func (d *device) sending(c *tap, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.begun {
		c.begun, d.region = true, c.region
		clear(d.sentAt)
	}
	d.eye.Sent(b)
	for _, line := range strings.Split(string(b), "\n") {
		var f struct {
			T   string
			Ops []check.Item
		}
		if json.Unmarshal([]byte(line), &f) == nil && f.T == "put" {
			for _, it := range f.Ops {
				d.sentAt[it.OID] = time.Now()
			}
		}
	}
}

// stored takes an acknowledgement: it is noted for the end, and must have come soon. Holding mu.
func (d *device) stored(session string, op check.Item, at check.Place) {
	a := ack{session: session, region: d.region, oid: at.OID, kind: op.K, key: op.Key, after: d.after[at.OID]}
	if op.Text != nil {
		a.text = *op.Text
	}
	a.asks = strings.HasPrefix(a.text, "ask ")
	since, took := d.sentAt[at.OID], time.Duration(0)
	if !since.IsZero() {
		took = time.Since(since)
	}
	d.w.mu.Lock()
	d.w.acked = append(d.w.acked, a)
	d.w.mu.Unlock()
	if took > prompt && d.w.region(d.region).trouble.Load() < since.UnixNano() {
		d.w.violate("13 local: %s waited %s for the ok of %s, and nothing was wrong in %s", d.name, took, at.OID, d.region)
	}
}

// next numbers what a device says.
func (d *device) next() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	return d.count
}

// say puts a message; ask puts a question of several words, which the echo gives back.
func (d *device) say() *client.Receipt {
	return d.put(fmt.Sprintf("%s says %d", d.name, d.next()), false)
}

func (d *device) ask(words int) *client.Receipt {
	text := fmt.Sprintf("ask %s %d", d.name, d.next())
	for i := range words {
		text += fmt.Sprintf(" w%d", i)
	}
	return d.put(text, true)
}

func (d *device) put(text string, ask bool) *client.Receipt {
	shown := d.s.State().Log
	d.mu.Lock() // its ok is looked at after that
	defer d.mu.Unlock()
	r, err := d.s.Send(text, client.SendOptions{Ask: ask})
	if err != nil {
		d.w.t.Fatal(err)
	}
	if len(shown) > 0 {
		d.after[r.OID()] = int64(shown[len(shown)-1].Seq)
	}
	return r
}

// set writes a setting.
func (d *device) set(key string) *client.Receipt {
	r, err := d.s.Set(key, fmt.Sprintf("%s %d", d.name, d.next()))
	if err != nil {
		d.w.t.Fatal(err)
	}
	return r
}

// wait waits until an op is stored, or safe.
func (d *device) wait(r *client.Receipt, stage client.Stage) {
	d.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Wait(ctx, stage); err != nil {
		now, why := r.Stage()
		d.w.t.Fatalf("%s: %s is %s, not %s: %v", d.name, r.OID(), now, stage, why)
	}
}

// move goes on in another region.
func (d *device) move(region string) {
	if err := d.sdk.Move(region); err != nil {
		d.w.t.Fatal(err)
	}
}

// live reports whether the device is in a region and follows what happens there.
func (d *device) live(region string) bool {
	st := d.s.State()
	return st.Live && st.Region == region
}

// stop ends the device's program.
func (d *device) stop() {
	d.cancel()
	if err := <-d.done; err != nil {
		d.w.violate("%s was sent away: %v", d.name, err)
	}
}

// lose is the end of a device, with all that it had.
func (d *device) lose() {
	d.away(memnet.Break)
	d.stop()
	d.w.devices = slices.DeleteFunc(d.w.devices, func(o *device) bool { return o == d })
}
