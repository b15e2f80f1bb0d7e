package app

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roamsync/roam/wire"
)

// TokenOptions is what `roam token` is told.
type TokenOptions struct {
	HS256File string        `name:"hs256-file" env:"ROAM_HS256_FILE" required:"" placeholder:"FILE" help:"File with the HS256 key, the one of roam serve --auth-hs256-file."`
	User      string        `required:"" placeholder:"NAME" help:"User whom the token speaks for: 1 to 64 of A-Z a-z 0-9 . _ ~ -."`
	TTL       time.Duration `name:"ttl" default:"12h" help:"How long the token is valid, at most 8760h (a year)."`
}

// maxTokenTTL bounds the damage of a token that leaks.
const maxTokenTTL = 365 * 24 * time.Hour

func (o *TokenOptions) check() error {
	var errs []error
	if !wire.ValidUser(o.User) {
		errs = append(errs, fmt.Errorf("--user %q: 1 to 64 of A-Z a-z 0-9 . _ ~ -", o.User))
	}
	if o.TTL <= 0 || o.TTL > maxTokenTTL {
		errs = append(errs, fmt.Errorf("--ttl %s: above 0, at most %s", o.TTL, maxTokenTTL))
	}
	return errors.Join(errs...)
}

// Token prints a client token that servers with the same key accept.
func Token(o TokenOptions, now time.Time, w io.Writer) error {
	token, err := mintToken(o, now)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, token)
	return err
}

func mintToken(o TokenOptions, now time.Time) (string, error) {
	if err := o.check(); err != nil {
		return "", err
	}
	key, err := hs256Key("--hs256-file", o.HS256File)
	if err != nil {
		return "", err
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: o.User, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(o.TTL)),
	}).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return token, nil
}
