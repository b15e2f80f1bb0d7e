package replication

import (
	"context"
	"crypto/hmac"
	"errors"
	"net"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/roamsync/roam/wire/peerpb"
)

// Conns are this node's connections to others, one an address, kept until Close. There are as many as addresses that
// membership has told.
type Conns struct {
	opts  []grpc.DialOption
	shown *credentials

	mu     sync.Mutex
	byAddr map[string]*grpc.ClientConn
	closed bool
}

// ConnsConfig says who connects, and how.
type ConnsConfig struct {
	Region, Node string
	Keys         [][]byte                                                 // credentials between nodes: the first is shown
	Dial         func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
}

// NewConns makes no connection yet.
func NewConns(cfg ConnsConfig) *Conns {
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	shown := newCredentials(cfg.Region, cfg.Node, cfg.Keys[0])
	return &Conns{byAddr: map[string]*grpc.ClientConn{}, shown: shown, opts: []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), // Dial brings a connection that is encrypted already, or none is
		grpc.WithPerRPCCredentials(shown),
		grpc.WithContextDialer(cfg.Dial),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxPart), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialMin / 2, Multiplier: 2, Jitter: 0.2, MaxDelay: redialMax / 2},
			MinConnectTimeout: silentAfter,
		}),
	}}
}

// To returns the connection to an address, which is made when it is used.
func (c *Conns) To(addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("the node is stopping")
	}
	if conn := c.byAddr[addr]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, c.opts...)
	if err == nil {
		c.byAddr[addr] = conn
	}
	return conn, err
}

// Close ends all connections.
func (c *Conns) Close() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.byAddr {
		err = errors.Join(err, conn.Close())
	}
	c.byAddr = nil
	return err
}

// Close ends the streams that are served, and the connections to others.
func (l *Links) Close() error {
	close(l.done)
	return l.conns.Close()
}

// Node implements region.Cluster's way to another node of the region.
func (l *Links) Node(addr string) (peerpb.NodeClient, error) {
	conn, err := l.conns.To(addr)
	if err != nil {
		return nil, err
	}
	return peerpb.NewNodeClient(conn), nil
}

// Door reaches what another node of the region knows of its clients.
func (l *Links) Door(addr string) (peerpb.DoorClient, error) {
	conn, err := l.conns.To(addr)
	if err != nil {
		return nil, err
	}
	return peerpb.NewDoorClient(conn), nil
}

// Ask identifies who answers at an address.
func (l *Links) Ask(ctx context.Context, addr string) (instance uint64, err error) {
	conn, err := l.conns.To(addr)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := peerpb.NewPeerClient(conn).Identify(ctx, &peerpb.IdentifyRequest{})
	return reply.GetInstance(), err
}

func first(md metadata.MD, k string) string {
	if v := md.Get(k); len(v) > 0 {
		return v[0]
	}
	return ""
}

var errSecret = status.Error(codes.Unauthenticated, "different --secret-file: it must be the same in every region")

func (l *Links) admit(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	region, node, shown := first(md, regionLabel), first(md, nodeLabel), first(md, keyLabel)
	for _, key := range *l.keys.Load() {
		if hmac.Equal([]byte(shown), []byte(proof(key, region, node))) {
			return l.identified(ctx, region+"/"+node)
		}
	}
	l.metrics.refused.WithLabelValues("secret").Inc()
	l.cfg.Logger.Error("a node was refused: it has another --secret-file", "peer", region+"/"+node)
	return errSecret
}

// notLeader is what a stream that only the leader serves ends with on any other node: the trailer says who leads the first
// of the partitions, and how many groups share all of them.
func (l *Links) notLeader(stream grpc.ServerStream, partitions uint64) error {
	hints := metadata.Pairs(groupsLabel, strconv.Itoa(l.cfg.Lead.Groups()))
	if addr := l.cfg.Lead.Leader(partitions); addr != "" {
		hints.Append(leaderLabel, addr)
	}
	stream.SetTrailer(hints)
	return status.Error(codes.Unavailable, "this node does not lead its region")
}

// moved is the end of a stream whose server does not lead, who does, and among how many groups.
type moved struct {
	error
	leader string
	groups int // 0: it does not say
}

// Unwrap returns the stream's error.
func (m moved) Unwrap() error { return m.error }

// withHint adds what the trailer of a stream that has ended says of the leader.
func withHint(err error, stream grpc.ClientStream) error {
	leader := first(stream.Trailer(), leaderLabel)
	groups, bad := strconv.Atoi(first(stream.Trailer(), groupsLabel))
	if leader == "" && bad != nil {
		return err
	}
	return moved{err, leader, groups}
}

func groupsHint(err error) int {
	var m moved
	if errors.As(err, &m) {
		return m.groups
	}
	return 0
}

func leaderHint(err error) string {
	var m moved
	if errors.As(err, &m) {
		return m.leader
	}
	return ""
}
