// Package telemetry makes OpenTelemetry traces of mail, for those who have a
// collector: one trace for a transaction, with a span for each question to a
// filter and each delivery attempt, whenever that was. No span has an address, a
// subject or the text of an answer.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config is the section [telemetry].
type Config struct {
	// OTLP is the collector, "http://127.0.0.1:4318": OTLP over HTTP, to
	// /v1/traces below it. Default "": no traces are made.
	OTLP string `toml:"otlp"`
	// Sample is the part of all transactions that has traces, 0.01 is one of a
	// hundred. Default 1.
	Sample float64 `toml:"sample"`
}

// DefaultConfig makes no traces.
func DefaultConfig() Config { return Config{Sample: 1} }

// Validate returns all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.OTLP != "" {
		if u, err := url.Parse(c.OTLP); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("otlp: %q is no address of a collector; write one like http://127.0.0.1:4318", c.OTLP))
		}
	}
	if !(c.Sample > 0 && c.Sample <= 1) {
		errs = append(errs, fmt.Errorf("sample: %v; want more than 0, and up to 1", c.Sample))
	}
	return errors.Join(errs...)
}

// Deps is what traces are made with.
type Deps struct {
	Hostname string
	Version  string
	Log      *slog.Logger
	// Stats counts spans: "sent", "failed" (the collector did not take them).
	// nil: nobody counts.
	Stats interface{ Spans(result string, n int) }
}

// Traces makes traces while Run runs. Whoever tells it something never waits.
type Traces struct {
	cfg    Config
	deps   Deps
	tracer atomic.Pointer[trace.Tracer] // nil: Run doesn't run
}

// New makes traces for a configuration with a collector. It connects to nobody.
func New(cfg Config, deps Deps) (*Traces, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	if deps.Stats == nil {
		deps.Stats = nobody{}
	}
	return &Traces{cfg: cfg, deps: deps}, nil
}

type nobody struct{}

func (nobody) Spans(string, int) {}

// Bounds of what waits for the collector. What there is no room for is lost.
const (
	mostWaiting = 4096 // spans
	mostAtOnce  = 512
	sendEvery   = 2 * time.Second
	sendTime    = 10 * time.Second
	lastTime    = 3 * time.Second // for what is left at the end
)

// Run sends until ctx ends, and then, for a moment, what is left.
func (t *Traces) Run(ctx context.Context) error {
	base, err := url.Parse(t.cfg.OTLP)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	// The exporter is stopped by Shutdown, not by the end of ctx.
	exporter, err := otlptracehttp.New(context.WithoutCancel(ctx),
		otlptracehttp.WithEndpointURL(base.JoinPath("v1", "traces").String()),
		otlptracehttp.WithTimeout(sendTime),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: sendTime}),
	)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&watched{SpanExporter: exporter, deps: t.deps}, sdk.WithMaxQueueSize(mostWaiting), sdk.WithMaxExportBatchSize(mostAtOnce), sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(sendTime)),
		sdk.WithSampler(sdk.TraceIDRatioBased(t.cfg.Sample)),
		sdk.WithIDGenerator(ids{}),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "gatepost"), attribute.String("service.version", t.deps.Version), attribute.String("host.name", t.deps.Hostname),
		)),
	)
	tracer := provider.Tracer("gatepost")
	t.tracer.Store(&tracer)
	<-ctx.Done()
	t.tracer.Store(nil)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
	defer cancel()
	_ = provider.Shutdown(last) // watched has told what was lost
	return nil
}

// watched tells our log of failures, where the library would tell its own: once
// when they begin, and once when they end.
type watched struct {
	sdk.SpanExporter
	deps Deps

	mu   sync.Mutex
	down bool
}

// ExportSpans implements sdk.SpanExporter.
func (w *watched) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := w.SpanExporter.ExportSpans(ctx, spans)
	result := "sent"
	if err != nil {
		result = "failed"
	}
	w.deps.Stats.Spans(result, len(spans))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && !w.down:
		w.deps.Log.WarnContext(ctx, "traces are lost: the collector does not take them", "error", err)
	case err == nil && w.down:
		w.deps.Log.InfoContext(ctx, "the collector takes traces again")
	}
	w.down = err != nil
	return nil
}
