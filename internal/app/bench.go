package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/roamsync/roam/internal/bench"
)

// BenchOptions is what `roam bench` is told.
type BenchOptions struct {
	URL         []string      `name:"url" default:"ws://127.0.0.1:8080/v1/connect" placeholder:"URL,..." help:"Where clients connect: nodes of one region, or of several. The devices of a session are spread over them. Default: ws://127.0.0.1:8080/v1/connect."`
	HS256File   string        `name:"hs256-file" env:"ROAM_HS256_FILE" placeholder:"FILE" help:"Key to sign the users' tokens with. Without it: dev tokens, which nodes with --auth dev take."`
	Connections int           `default:"100" help:"Connections at once."`
	Devices     int           `default:"2" help:"Connections of one session: what one sends is delivered to the others."`
	Rate        float64       `default:"1000" help:"Ops a second, over all connections."`
	Duration    time.Duration `default:"10s" help:"How long to measure."`
	Warmup      time.Duration `default:"2s" help:"Load before that, which is not measured."`
	Payload     int           `default:"256" help:"Bytes of a message's text."`
	Mix         string        `default:"put=100" placeholder:"KIND=%,..." help:"What is sent, in percent: put, set, read, chat (a question and its answer). 'chat' alone: only that. Default: put=100."`
	Arrivals    string        `enum:"poisson,constant" default:"poisson" help:"When a connection sends: poisson or constant."`
	Seed        uint64        `default:"1" help:"Seed of the schedule."`
	JSON        string        `name:"json" placeholder:"FILE" help:"Write the report as JSON to FILE, or to standard output in place of the table: -."`
	MaxP99      time.Duration `name:"max-p99" placeholder:"D" help:"Fail if the P99 of put → ok (chat → ok) is above this."`
}

// benchReport is a report as JSON.
type benchReport struct {
	Version string `json:"version"`
	*bench.Report
}

func (o *BenchOptions) config(progress *os.File) (c bench.Config, err error) {
	c = bench.Config{
		URLs: o.URL, Connections: o.Connections, Devices: o.Devices, Rate: o.Rate, Duration: o.Duration, Warmup: o.Warmup,
		Payload: o.Payload, Constant: o.Arrivals == "constant", Seed: o.Seed, Every: 10 * time.Second,
		Token: func(user string) (string, error) { return "dev:" + user, nil },
	}
	if c.Mix, err = bench.ParseMix(o.Mix); err != nil {
		return c, fmt.Errorf("--mix: %w", err)
	}
	if o.HS256File != "" {
		c.Token = func(user string) (string, error) {
			return mintToken(TokenOptions{HS256File: o.HS256File, User: user, TTL: o.Warmup + o.Duration + time.Hour}, time.Now())
		}
	}
	if info, err := progress.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		c.Every = time.Second
	}
	return c, nil
}

// Bench loads regions until the load is over or ctx ends, reports, and fails if anything was lost or doubled.
func Bench(ctx context.Context, o BenchOptions, version string, stdout, stderr io.Writer) error {
	c, err := o.config(os.Stderr)
	if err != nil {
		return err
	}
	c.Progress = stderr
	r, err := bench.Run(ctx, c)
	if err != nil {
		return err
	}
	if err := o.write(r, version, stdout); err != nil {
		return err
	}
	var errs []error
	if wrong := r.Wrong(); wrong != "" {
		errs = append(errs, errors.New(wrong))
	}
	for what, l := range r.Latencies {
		p99 := time.Duration(l.P99 * float64(time.Millisecond))
		if o.MaxP99 > 0 && strings.HasSuffix(what, "→ ok") && p99 > o.MaxP99 {
			errs = append(errs, fmt.Errorf("--max-p99 %s: the P99 of %s is %s", o.MaxP99, what, p99))
		}
	}
	return errors.Join(errs...)
}

func (o *BenchOptions) write(r *bench.Report, version string, stdout io.Writer) error {
	if o.JSON != "-" {
		if err := r.Print(stdout); err != nil || o.JSON == "" {
			return err
		}
	}
	b, err := json.MarshalIndent(benchReport{version, r}, "", "  ")
	if err != nil {
		return err
	}
	if b = append(b, '\n'); o.JSON == "-" {
		_, err = stdout.Write(b)
		return err
	}
	if err := os.WriteFile(o.JSON, b, 0o644); err != nil {
		return fmt.Errorf("--json: %w", err)
	}
	return nil
}
