package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// place is where a transaction stands: its trace, and the span of it all. Both
// come from its ID, so that a delivery days later, by another process, finds the
// trace that it belongs to.
func place(id string) (trace.TraceID, trace.SpanID) {
	sum := sha256.Sum256([]byte("gatepost " + id))
	return trace.TraceID(sum[:16]), trace.SpanID(sum[16:24])
}

type placeKey struct{}

// ids gives the span of a transaction its own ID, and others any.
type ids struct{}

// NewIDs implements sdk.IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(placeKey{}).(string)
	return place(id)
}

// NewSpanID implements sdk.IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// below is a context for spans within a transaction.
func below(id string) context.Context {
	t, s := place(id)
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: t, SpanID: s, TraceFlags: trace.FlagsSampled, Remote: true}))
}

// Decision makes the spans of one.
func (t *Traces) Decision(r history.Record) {
	tracer := t.tracer.Load()
	if tracer == nil || r.ID == "" {
		return
	}
	begin := r.Time.Add(-r.Took)
	ctx, name := context.WithValue(context.Background(), placeKey{}, r.ID), "transaction"
	if r.Again {
		ctx, name = below(r.ID), "judged again"
	}
	ctx, span := (*tracer).Start(ctx, name, trace.WithTimestamp(begin), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("gatepost.id", r.ID),
		attribute.String("gatepost.listener", r.Session.Listener),
		attribute.String("gatepost.via", r.Session.Via),
		attribute.String("gatepost.stage", r.Stage),
		attribute.String("gatepost.action", r.Action),
		attribute.Float64("gatepost.score", r.Score),
		attribute.Int64("gatepost.size", r.Size),
		attribute.Int("gatepost.recipients", len(r.Recipients)+r.Omitted),
	))
	if span.IsRecording() {
		for _, q := range r.Asked {
			t.question(ctx, *tracer, begin.Add(q.Start), q)
		}
	}
	span.End(trace.WithTimestamp(r.Time))
}

func (t *Traces) question(ctx context.Context, tracer trace.Tracer, begin time.Time, q history.Asked) {
	_, span := tracer.Start(ctx, "filter "+q.Filter, trace.WithTimestamp(begin), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("gatepost.filter", q.Filter),
		attribute.String("gatepost.stage", q.Stage),
		attribute.String("gatepost.result", q.Result),
		attribute.Bool("gatepost.shadow", q.Shadow),
	))
	if q.Result != "ok" && q.Result != "cancelled" {
		span.SetStatus(codes.Error, q.Result)
	}
	span.End(trace.WithTimestamp(begin.Add(q.Took)))
}

// Event makes the span of a delivery attempt.
func (t *Traces) Event(e mail.Event) {
	tracer := t.tracer.Load()
	if tracer == nil || e.What != mail.EventAttempt || e.ID == "" {
		return
	}
	transaction := e.Group
	if transaction == "" {
		transaction = e.ID
	}
	end := e.Time
	if end.IsZero() {
		end = time.Now()
	}
	_, span := (*tracer).Start(below(transaction), "delivery", trace.WithTimestamp(end.Add(-e.Took)), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("gatepost.id", e.ID),
		attribute.String("gatepost.next_hop", e.Remote),
		attribute.String("gatepost.status", e.Status.String()),
	))
	if e.Status != mail.Delivered {
		span.SetStatus(codes.Error, e.Status.String())
	}
	span.End(trace.WithTimestamp(end))
}
