package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roamsync/roam/wire"
)

// Identity is who a token speaks for, and what that may open.
type Identity struct {
	User    string
	Expires time.Time         // zero: never
	Service bool              // a back end: may open every session, in any role
	Grants  map[string]string // "owner/name" or "owner/*" -> "r" or "rw"
}

// Auth turns a client's token into an identity.
type Auth interface {
	Authenticate(token string) (Identity, error)
}

// Dev accepts the token dev:NAME. Anyone can be anyone: for loopback only.
type Dev struct{}

// Authenticate implements Auth.
func (Dev) Authenticate(token string) (Identity, error) {
	user, ok := strings.CutPrefix(token, "dev:")
	if !ok || !wire.ValidUser(user) {
		return Identity{}, errors.New("this server takes tokens of the form dev:NAME (--auth dev)")
	}
	return Identity{User: user}, nil
}

// HS256 accepts JWTs signed with a shared key, and no other algorithm.
type HS256 struct {
	Key []byte
	Now func() time.Time // nil is time.Now
}

type claims struct {
	jwt.RegisteredClaims
	Roam struct {
		Sessions map[string]string `json:"sessions"`
		Service  bool              `json:"service"`
	} `json:"roam"`
}

// Authenticate implements Auth.
func (h HS256) Authenticate(token string) (Identity, error) {
	opts := []jwt.ParserOption{jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired()}
	if h.Now != nil {
		opts = append(opts, jwt.WithTimeFunc(h.Now))
	}
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return h.Key, nil }, opts...)
	if err != nil {
		return Identity{}, fmt.Errorf("token: %w", err)
	}
	if !wire.ValidUser(c.Subject) {
		return Identity{}, errors.New("token: sub is not a user: 1 to 64 of A-Z a-z 0-9 . _ ~ -")
	}
	return Identity{User: c.Subject, Expires: c.ExpiresAt.Time, Service: c.Roam.Service, Grants: c.Roam.Sessions}, nil
}

// may reports what the identity may do with a session.
func (id *Identity) may(session string) (read, write bool) {
	owner, _, _ := strings.Cut(session, "/")
	if owner == id.User || id.Service {
		return true, true
	}
	grant := id.Grants[session]
	if grant == "" {
		grant = id.Grants[owner+"/*"]
	}
	return grant == "r" || grant == "rw", grant == "rw"
}
