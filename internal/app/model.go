package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/dispatch/llm/openai"
)

// Kinds of workers: what answers.
const (
	echoWorker   = "echo"
	openaiWorker = "openai"
)

// ModelOptions is what a worker of the kind openai is told; Models goes for every kind.
type ModelOptions struct {
	Models            []string      `placeholder:"NAME" help:"Models that the worker serves; the first answers who asks for none. NAME=UPSTREAM if the server has another name for it. Default with echo: echo."`
	BaseURL           string        `name:"base-url" default:"https://api.openai.com/v1" placeholder:"URL" help:"With openai: the server, without /chat/completions; any that streams chat completions as OpenAI does. Default: https://api.openai.com/v1."`
	APIKeyFile        string        `name:"api-key-file" placeholder:"FILE" help:"With openai: file with the server's key. Without it the key is that in $OPENAI_API_KEY; without either none is sent."`
	APIKey            string        `name:"api-key" hidden:"" env:"OPENAI_API_KEY" help:"With openai: the server's key. For the environment; a command line is not secret."`
	ContextTokens     int           `default:"8192" help:"With openai: the prompt is cut to about this many tokens; keep it below the model's context by what an answer may take."`
	FirstTokenTimeout time.Duration `default:"2m" help:"With openai: longest wait for the first token."`
	IdleTimeout       time.Duration `default:"1m" help:"With openai: longest wait for the next token."`
	AnswerTimeout     time.Duration `default:"10m" help:"With openai: longest time for an answer; what has come by then is kept, as cut."`
	Retries           int           `default:"3" help:"With openai: how often a request that failed before any text is made again."`
}

// served are the models' names here, and those there where they differ.
func (o *ModelOptions) served(kind string) (names []string, upstream map[string]string, err error) {
	if len(o.Models) == 0 {
		if kind == openaiWorker {
			return nil, nil, errors.New("--models is required with openai: what the server calls its models, as its /models lists them")
		}
		return []string{echoWorker}, nil, nil
	}
	upstream = map[string]string{}
	for _, m := range o.Models {
		name, up, alias := strings.Cut(m, "=")
		if name == "" || (alias && up == "") {
			return nil, nil, fmt.Errorf("--models %q: NAME or NAME=UPSTREAM is needed", m)
		}
		if !alias {
			up = name
		}
		names = append(names, name)
		upstream[name] = up
	}
	return names, upstream, nil
}

// answering makes what answers, and the names of its models.
func (o *ModelOptions) answering(kind string, delay time.Duration, log *slog.Logger, reg prometheus.Registerer) (llm.LLM, []string, error) {
	names, upstream, err := o.served(kind)
	if err != nil {
		return nil, nil, err
	}
	if kind != openaiWorker {
		if delay == 0 {
			delay = -1 // none; zero would be the default
		}
		return llm.Echo{TokenDelay: delay}, names, nil
	}
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	key, err := o.key()
	if err != nil {
		return nil, nil, err
	}
	retries := o.Retries
	if retries == 0 {
		retries = -1
	}
	model, err := openai.New(openai.Config{
		BaseURL: o.BaseURL, APIKey: key, Upstream: upstream, ContextTokens: o.ContextTokens, FirstToken: o.FirstTokenTimeout,
		Idle: o.IdleTimeout, Total: o.AnswerTimeout, Retries: retries, Logger: log, Registerer: reg,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("--base-url %s: %w", o.BaseURL, err)
	}
	return model, names, nil
}

// check refuses what the model would take for its default.
func (o *ModelOptions) check() error {
	var errs []error
	for _, d := range []struct {
		flag string
		d    time.Duration
	}{{"--first-token-timeout", o.FirstTokenTimeout}, {"--idle-timeout", o.IdleTimeout}, {"--answer-timeout", o.AnswerTimeout}} {
		if d.d <= 0 {
			errs = append(errs, fmt.Errorf("%s %s: above 0", d.flag, d.d))
		}
	}
	if o.Retries < 0 || o.Retries > openai.MaxRetries {
		errs = append(errs, fmt.Errorf("--retries %d: 0 to %d", o.Retries, openai.MaxRetries))
	}
	if o.ContextTokens < openai.MinContextTokens || o.ContextTokens > openai.MaxContextTokens {
		errs = append(errs, fmt.Errorf("--context-tokens %d: %d to %d", o.ContextTokens, openai.MinContextTokens, openai.MaxContextTokens))
	}
	return errors.Join(errs...)
}

// maxKey bounds a key's file, in bytes.
const maxKey = 16 << 10

// key is the server's key; empty if there is none.
func (o *ModelOptions) key() (string, error) {
	if o.APIKeyFile == "" {
		if err := openai.CheckKey(o.APIKey); err != nil {
			return "", fmt.Errorf("OPENAI_API_KEY: %w", err)
		}
		return o.APIKey, nil
	}
	f, err := os.Open(o.APIKeyFile)
	if err != nil {
		return "", fmt.Errorf("--api-key-file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return "", fmt.Errorf("--api-key-file: %w", err)
	}
	key := strings.TrimSpace(string(b))
	if key == "" || len(b) == maxKey {
		return "", fmt.Errorf("--api-key-file %s: it is empty, or too long for a key", o.APIKeyFile)
	}
	if err := openai.CheckKey(key); err != nil {
		return "", fmt.Errorf("--api-key-file %s: %w", o.APIKeyFile, err)
	}
	return key, nil
}
