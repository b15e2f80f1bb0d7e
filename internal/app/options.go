package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/internal/congestion"
)

// ServeOptions is what `roam serve` is told. The tags are the flags: names, defaults and help.
type ServeOptions struct {
	Region string `required:"" placeholder:"NAME" help:"Region of this node: a-z, 0-9 and -."`
	Node   string `default:"n1" placeholder:"NAME" help:"Name of this node, unique in its region."`
	Data   string `default:"roam-data" placeholder:"DIR" help:"Directory for sessions and the Raft log."`

	DiskReserve string `placeholder:"SIZE" help:"What has to stay free on the disk of --data, in bytes (512MiB, 5GiB) or as a share of the disk (2%); below that, a leader refuses messages. 0: nothing. Default: 2% of the disk, at least 256MiB and at most 5GiB."`

	ClientAddr      string        `default:"127.0.0.1:8080" placeholder:"H:P" help:"Address for clients (WebSocket)."`
	AdminAddr       string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Address for health, metrics, status and profiles. Never public."`
	ClusterAddr     string        `default:"127.0.0.1:7946" placeholder:"H:P" help:"Address for membership (memberlist, TCP and UDP)."`
	PeerAddr        string        `default:"127.0.0.1:7947" placeholder:"H:P" help:"Address for other nodes (Raft and gRPC, TCP)."`
	AdvertiseHost   string        `placeholder:"HOST" help:"Name or IP that other nodes reach this node by, at the ports of --cluster-addr and --peer-addr. Needed where those are 0.0.0.0 or [::]."`
	PeerCongestion  string        `placeholder:"NAME" help:"TCP congestion control of connections between nodes, such as cubic; auto: bbr for those that lose for a while, cubic for others (Linux only). Default: the machine's."`
	Join            []string      `placeholder:"H:P,..." help:"Cluster addresses of other members, of any region."`
	Gateway         bool          `help:"Hold no data: serve clients through the region's nodes that do. Needs --join; --data, --redis, --peer-addr, --groups and --bootstrap-expect count for nothing, and --worker is refused."`
	SessionEntries  int           `default:"0" placeholder:"N" help:"About how many messages and answers of a session stay; once there are a quarter more, the oldest are removed in every region. 0: all."`
	SessionTTL      time.Duration `name:"session-ttl" env:"ROAM_SESSION_TTL" default:"0" placeholder:"720h" help:"How long a session may be unused, not counting reads, before it is removed in every region, once all of them have all of it. Give all regions the same. 0: for ever."`
	RemovedTTL      time.Duration `name:"removed-ttl" env:"ROAM_REMOVED_TTL" default:"720h" placeholder:"720h" help:"How long the id of a message that was removed is kept, so that it is a duplicate when it is put again; clients give up what they could not deliver in 29 days. Give all regions the same. 0: for ever."`
	BootstrapExpect int           `default:"1" placeholder:"0|1|3|5" help:"Data nodes that found the region, and vote in it until roam resize says otherwise: 1, 3 or 5. 0: this node founds nothing, it joins the region that there is."`

	Groups int `default:"0" placeholder:"1|2|4|8|16" help:"Raft groups that share the region's sessions: 1, 2, 4, 8 or 16, for good from when the region is founded. Default: as many as the region has, 1 when it is founded."`

	FeedRetainOps uint64 `default:"1000000" placeholder:"N" help:"Ops of each feed (a region's, in one of 64 partitions) that are kept for other regions that are away. One that was away for longer takes the sessions as a whole. 0: all."`

	Redis  string `default:"redis://127.0.0.1:6379" placeholder:"URL" help:"Redis of this region, or 'embedded' for one inside this process (nothing durable is kept in Redis)."`
	Worker string `enum:",echo,openai" default:"" placeholder:"KIND" help:"Run a worker inside this process: echo or openai."`

	TakeoverAfter time.Duration `default:"30s" placeholder:"30s" help:"How long another region must not be heard before this one makes the answers that it owes, if a client here waits for them. 0: never."`

	ModelOptions

	Auth          string `enum:",dev" default:"" placeholder:"dev" help:"'dev' accepts the token dev:NAME; for loopback only."`
	AuthHS256File string `name:"auth-hs256-file" env:"ROAM_AUTH_HS256_FILE" placeholder:"FILE" help:"File with the HS256 key of client tokens (a trailing newline is trimmed)."`
	SecretFile    string `placeholder:"FILE" help:"Key ring for resume tokens and traffic between nodes, the same in every region: roam keygen > FILE. Read again when it changes."`
	AdvertiseURL  string `name:"advertise-url" placeholder:"URL" help:"WebSocket URL that clients reach this region by. Default: ws://CLIENT-ADDR/v1/connect, or wss:// with --client-tls-cert."`
	TLSOptions
	LogLevel string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: debug, info, warn, error."`
	TraceOptions
	ClockOffset time.Duration `name:"unsafe-clock-offset" placeholder:"90s" help:"Shift this node's clock. For tests and drills only."`
}

// leastTTL is the least time after which a session counts as unused: clocks of regions differ.
const leastTTL = time.Minute

// leastTakeover is the least time after which answers are taken over.
const leastTakeover = 3 * time.Second

// check refuses what cannot work, naming the flag.
func (o *ServeOptions) check() error {
	_, err := parseReserve(o.DiskReserve)
	return errors.Join(err, o.checkNames(), o.checkAddrs(), o.checkAuth(), o.checkRedis(), o.TraceOptions.check(), o.checkTLS())
}

func (o *ServeOptions) checkNames() error {
	var errs []error
	if !crdt.ValidRegion(o.Region) {
		errs = append(errs, fmt.Errorf("--region %q: 1 to 32 of a-z, 0-9 and -", o.Region))
	}
	if !crdt.ValidRegion(o.Node) {
		errs = append(errs, fmt.Errorf("--node %q: 1 to 32 of a-z, 0-9 and -", o.Node))
	}
	if !slices.Contains([]int{0, 1, 3, 5}, o.BootstrapExpect) {
		errs = append(errs, fmt.Errorf("--bootstrap-expect %d: 1, 3 or 5 nodes found a region, and with 0 a node joins one", o.BootstrapExpect))
	}
	if o.Gateway && len(o.Join) == 0 {
		errs = append(errs, errors.New("--gateway: --join must name nodes of the region that hold data"))
	}
	if o.Gateway && o.Worker != "" {
		errs = append(errs, errors.New("--gateway: a node without data runs no --worker: start roam worker"))
	}
	if o.TakeoverAfter != 0 && o.TakeoverAfter < leastTakeover {
		errs = append(errs, fmt.Errorf("--takeover-after %s: at least %s, which is how soon a link that is cut is noticed, or 0 for never", o.TakeoverAfter, leastTakeover))
	}
	if o.SessionTTL != 0 && o.SessionTTL < leastTTL {
		errs = append(errs, fmt.Errorf("--session-ttl %s: at least %s, or 0 to keep sessions for ever", o.SessionTTL, leastTTL))
	}
	if o.RemovedTTL != 0 && o.RemovedTTL < leastTTL {
		errs = append(errs, fmt.Errorf("--removed-ttl %s: at least %s, or 0 to keep ids for ever", o.RemovedTTL, leastTTL))
	}
	if o.SessionEntries < 0 {
		errs = append(errs, fmt.Errorf("--session-entries %d: at least 1, or 0 to keep all", o.SessionEntries))
	}
	if !slices.Contains([]int{0, 1, 2, 4, 8, 16}, o.Groups) {
		errs = append(errs, fmt.Errorf("--groups %d: 1, 2, 4, 8 or 16 share the sessions of a region", o.Groups))
	}
	if !o.Gateway && o.BootstrapExpect != 1 && len(o.Join) == 0 {
		errs = append(errs, fmt.Errorf("--bootstrap-expect %d: --join must name the region's other nodes", o.BootstrapExpect))
	}
	return errors.Join(errs...)
}

func (o *ServeOptions) checkAddrs() error {
	var errs []error
	for _, a := range []struct{ flag, addr string }{
		{"--client-addr", o.ClientAddr}, {"--admin-addr", o.AdminAddr},
		{"--cluster-addr", o.ClusterAddr}, {"--peer-addr", o.PeerAddr},
	} {
		errs = append(errs, checkAddr(a.flag, a.addr))
	}
	errs = append(errs, o.checkAdvertised(), congestion.Check(o.PeerCongestion))
	for _, j := range o.Join {
		errs = append(errs, checkAddr("--join", j))
	}
	if o.AdvertiseURL != "" {
		if u, err := url.Parse(o.AdvertiseURL); err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
			errs = append(errs, fmt.Errorf("--advertise-url %q: a ws:// or wss:// URL is needed", o.AdvertiseURL))
		}
	}
	return errors.Join(errs...)
}

func checkAddr(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: HOST:PORT is needed", flag, addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%s %q: %w", flag, addr, err)
	}
	return nil
}

func (o *ServeOptions) checkAuth() error {
	switch {
	case o.Auth == "" && o.AuthHS256File == "":
		return errors.New("--auth dev or --auth-hs256-file FILE is required, to know who a client is")
	case o.Auth != "" && o.AuthHS256File != "":
		return errors.New("--auth and --auth-hs256-file exclude each other")
	case o.Auth == "dev" && !loopback(o.ClientAddr):
		return fmt.Errorf("--auth dev lets anyone be anyone, so --client-addr must be a loopback address, not %s", o.ClientAddr)
	}
	return nil
}

func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func (o *ServeOptions) checkRedis() error {
	if o.Redis == embedded {
		if o.BootstrapExpect != 1 {
			return fmt.Errorf("--redis %s is inside one process: a region of several nodes needs a Redis that all of them reach", embedded)
		}
		return nil
	}
	if u, err := url.Parse(o.Redis); err != nil || !strings.HasPrefix(u.Scheme, "redis") || u.Host == "" {
		return fmt.Errorf("--redis %q: redis://HOST:PORT or %q is needed", o.Redis, embedded)
	}
	return nil
}

const embedded = "embedded"

// hs256Key reads a token key's file.
func hs256Key(flag, path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	key := []byte(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"))
	if len(key) < 16 {
		return nil, fmt.Errorf("%s %s: a key of at least 16 bytes is needed, this one has %d", flag, path, len(key))
	}
	return key, nil
}

// WorkerOptions is what `roam worker` is told.
type WorkerOptions struct {
	Redis       string        `default:"redis://127.0.0.1:6379" placeholder:"URL" help:"Redis of the region."`
	Region      string        `required:"" placeholder:"NAME" help:"Region to work for."`
	LLM         string        `name:"llm" enum:"echo,openai" default:"echo" help:"What answers: echo gives the prompt's words back, openai asks a server of models."`
	TokenDelay  time.Duration `default:"20ms" help:"Time between the words of echo."`
	Concurrency int           `default:"64" help:"Answers at once."`
	AdminAddr   string        `placeholder:"H:P" help:"Address for health and metrics. Never public. Without it there are none."`
	CollectorOptions
	LogLevel string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: debug, info, warn, error."`

	ModelOptions
}

func (o *WorkerOptions) check() error {
	var errs []error
	if !crdt.ValidRegion(o.Region) {
		errs = append(errs, fmt.Errorf("--region %q: 1 to 32 of a-z, 0-9 and -", o.Region))
	}
	if o.Concurrency < 1 || o.Concurrency > maxConcurrency {
		errs = append(errs, fmt.Errorf("--concurrency %d: 1 to %d", o.Concurrency, maxConcurrency))
	}
	if o.TokenDelay < 0 {
		errs = append(errs, fmt.Errorf("--token-delay %s: not below 0", o.TokenDelay))
	}
	if o.AdminAddr != "" {
		errs = append(errs, checkAddr("--admin-addr", o.AdminAddr))
	}
	errs = append(errs, o.CollectorOptions.check())
	s := ServeOptions{Redis: o.Redis, BootstrapExpect: 1}
	if o.Redis == embedded {
		errs = append(errs, errors.New("--redis embedded: a worker of its own needs the region's Redis; give its URL"))
	} else {
		errs = append(errs, s.checkRedis())
	}
	return errors.Join(errs...)
}

const maxConcurrency = 10_000

// DevOptions is what `roam dev` is told.
type DevOptions struct {
	Regions  []string      `default:"beijing,shanghai" placeholder:"NAME,..." help:"Regions to run in this process."`
	WanDelay time.Duration `default:"15ms" help:"One-way delay between regions."`
	Port     int           `default:"8080" help:"Client port of the first region; the others follow. The page is on the first."`
	Redis    string        `default:"embedded" placeholder:"URL" help:"'embedded', or the URL of a Redis that all regions share."`
	Demo     bool          `help:"Play a conversation that moves between the regions in the middle of an answer, and check it."`
	Once     bool          `help:"With --demo: end after it, with status 0 only if nothing was lost or doubled."`
	LogLevel string        `enum:"debug,info,warn,error" default:"warn" help:"Least level that is logged: debug, info, warn, error."`
	TraceOptions
}

// maxDevRegions bounds the regions of one dev process.
const maxDevRegions = 9

func (o *DevOptions) check() error {
	var errs []error
	if len(o.Regions) == 0 || len(o.Regions) > maxDevRegions {
		errs = append(errs, fmt.Errorf("--regions: 1 to %d names", maxDevRegions))
	}
	seen := map[string]bool{}
	for _, r := range o.Regions {
		if !crdt.ValidRegion(r) || seen[r] {
			errs = append(errs, fmt.Errorf("--regions: %q is not a name of a-z, 0-9 and -, or comes twice", r))
		}
		seen[r] = true
	}
	if o.WanDelay < 0 || o.WanDelay > 10*time.Second {
		errs = append(errs, fmt.Errorf("--wan-delay %s: 0 to 10s", o.WanDelay))
	}
	if o.Port < 0 || o.Port+len(o.Regions) > 65536 {
		errs = append(errs, fmt.Errorf("--port %d: 0 (any) to %d", o.Port, 65536-len(o.Regions)))
	}
	if o.Demo && len(o.Regions) < 2 {
		errs = append(errs, errors.New("--demo needs two --regions to move between"))
	}
	s := ServeOptions{Redis: o.Redis, BootstrapExpect: 1}
	return errors.Join(append(errs, s.checkRedis(), o.TraceOptions.check())...)
}
