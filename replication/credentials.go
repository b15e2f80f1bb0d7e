package replication

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// credentials are a node's name and its proof of the secret. They go as the connection does: in clear, unless it is encrypted.
type credentials struct {
	region, node string
	shown        atomic.Pointer[map[string]string]
}

func newCredentials(region, node string, key []byte) *credentials {
	c := &credentials{region: region, node: node}
	c.use(key)
	return c
}

// use goes on with another key.
func (c *credentials) use(key []byte) {
	c.shown.Store(&map[string]string{regionLabel: c.region, nodeLabel: c.node, keyLabel: proof(key, c.region, c.node)})
}

// GetRequestMetadata implements grpc's PerRPCCredentials.
func (c *credentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return *c.shown.Load(), nil
}

// RequireTransportSecurity implements grpc's PerRPCCredentials.
func (*credentials) RequireTransportSecurity() bool { return false }

// proof shows that a node knows the secret.
func proof(key []byte, region, node string) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s/%s", region, node)
	return hex.EncodeToString(mac.Sum(nil))
}

// SetKeys goes on with other credentials: the first is shown. Calls that are under way stay.
func (c *Conns) SetKeys(keys [][]byte) { c.shown.use(keys[0]) }

// SetKeys goes on with other credentials between nodes: the first is shown, all are accepted.
func (l *Links) SetKeys(keys [][]byte) {
	l.keys.Store(&keys)
	l.conns.SetKeys(keys)
}

// handshake is what the gRPC server learns of a connection that was encrypted before it came here.
type handshake struct {
	grpccredentials.TransportCredentials
}

func newHandshake() handshake { return handshake{insecure.NewCredentials()} }

// ServerHandshake implements grpc's TransportCredentials.
func (h handshake) ServerHandshake(conn net.Conn) (net.Conn, grpccredentials.AuthInfo, error) {
	if named, ok := conn.(interface{ PeerName() string }); ok && named.PeerName() != "" {
		return conn, certified{grpccredentials.CommonAuthInfo{SecurityLevel: grpccredentials.PrivacyAndIntegrity}, named.PeerName()}, nil
	}
	return h.TransportCredentials.ServerHandshake(conn)
}

// Clone implements grpc's TransportCredentials.
func (h handshake) Clone() grpccredentials.TransportCredentials {
	return handshake{h.TransportCredentials.Clone()}
}

// certified is who is at the other end by its certificate: region/node.
type certified struct {
	grpccredentials.CommonAuthInfo
	name string
}

// AuthType implements grpc's AuthInfo.
func (certified) AuthType() string { return "roam certificate" }

// identified refuses who says to be somebody else than its certificate does.
func (l *Links) identified(ctx context.Context, claimed string) error {
	p, _ := grpcpeer.FromContext(ctx)
	if p == nil {
		return nil
	}
	by, ok := p.AuthInfo.(certified)
	if !ok || by.name == claimed {
		return nil
	}
	l.metrics.refused.WithLabelValues("identity").Inc()
	l.cfg.Logger.Error("a node was refused: it says to be another than its certificate does", "peer", claimed, "certificate", by.name)
	return status.Errorf(codes.PermissionDenied, "the certificate is that of %s, not of %s", by.name, claimed)
}
