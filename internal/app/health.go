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

// maxHealthAnswer bounds what is read of the node's words.
const maxHealthAnswer = 4 << 10

// Health asks a node whether it takes clients, and fails if not: for health checks in images that hold nothing else.
func Health(ctx context.Context, o HealthOptions, w io.Writer) error {
	if err := checkAddr("--admin", o.Admin); err != nil {
		return err
	}
	if o.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: above 0", o.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.Admin+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("--admin %s: %w", o.Admin, err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: the node is asked, nobody else
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("--admin %s: %w", o.Admin, err)
	}
	defer resp.Body.Close()
	words, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthAnswer))
	if err != nil {
		return fmt.Errorf("--admin %s: %w", o.Admin, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("--admin %s: %s: %s", o.Admin, resp.Status, strings.TrimSpace(string(words)))
	}
	_, err = w.Write(words)
	return err
}
