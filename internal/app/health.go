package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// HealthOptions is what `roam health` is told.
type HealthOptions struct {
	Admin   string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of the node."`
	Timeout time.Duration `default:"2s" help:"How long the node may take to answer."`
}

// Health asks a node whether it takes clients, and fails if not: for health checks in images that hold nothing else.
func Health(ctx context.Context, o HealthOptions, w io.Writer) error {
	if o.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: above 0", o.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	resp, err := send(ctx, o.Admin, http.MethodGet, "/readyz", content{})
	if err != nil {
		return err
	}
	said, err := words(o.Admin, resp)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("--admin %s: %s: %s", o.Admin, resp.Status, strings.TrimSpace(said))
	}
	_, err = io.WriteString(w, said)
	return err
}
