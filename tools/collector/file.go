package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// fileConfig says where traces are written: OTLP in JSON, a request a line.
type fileConfig struct {
	Path string `mapstructure:"path"`
}

// Validate implements confmap's check.
func (c *fileConfig) Validate() error {
	if c.Path == "" {
		return errors.New("path is needed")
	}
	return nil
}

func fileFactory() exporter.Factory {
	return exporter.NewFactory(component.MustNewType("file"), func() component.Config { return &fileConfig{} },
		exporter.WithTraces(newFile, component.StabilityLevelDevelopment))
}

func newFile(_ context.Context, _ exporter.Settings, cfg component.Config) (exporter.Traces, error) {
	f, err := os.OpenFile(cfg.(*fileConfig).Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &file{f: f}, err
}

// file is an exporter that writes what it gets.
type file struct {
	mu sync.Mutex // one line at a time
	f  *os.File
}

// Start implements component.Component.
func (*file) Start(context.Context, component.Host) error { return nil }

// Shutdown implements component.Component.
func (f *file) Shutdown(context.Context) error { return f.f.Close() }

// Capabilities implements consumer.Traces.
func (*file) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeTraces implements consumer.Traces.
func (f *file) ConsumeTraces(_ context.Context, td ptrace.Traces) error {
	b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err = f.f.Write(append(b, '\n'))
	return err
}
