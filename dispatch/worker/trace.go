package worker

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/dispatch/llm"
	"github.com/roamsync/roam/internal/telemetry"
	"github.com/roamsync/roam/wire/workpb"
)

// The conventions for generative AI are kept apart from the others, in open-telemetry/semantic-conventions-genai; the
// packages that are generated from the main ones no longer have these names.
const (
	genAIOperation = attribute.Key("gen_ai.operation.name")
	genAIProvider  = attribute.Key("gen_ai.provider.name")
	genAIModel     = attribute.Key("gen_ai.request.model")
	genAISession   = attribute.Key("gen_ai.conversation.id")
	genAIReasons   = attribute.Key("gen_ai.response.finish_reasons")
)

// journey is the trace that an attempt is part of; nil if the answer is not watched, as nearly all are not.
type journey struct {
	span   trace.Span // of the attempt
	tracer trace.Tracer
	parent string // what reports carry
}

// journeyOf starts the span of working on a job whose question is watched; the context that it returns is the work's.
func (s *session) journeyOf(ctx context.Context, d *delivery) (*journey, context.Context) {
	if d.job.Traceparent == "" {
		return nil, ctx
	}
	t, ok := crdt.ParseTrace(d.job.Traceparent)
	if !ok {
		return nil, ctx
	}
	j := &journey{tracer: s.cfg.Tracer, parent: d.job.Traceparent}
	ctx, j.span = telemetry.Start(telemetry.Below(ctx, t.ID, t.Span), s.cfg.Tracer, "answer", trace.SpanKindConsumer,
		telemetry.Message(d.job.Session, d.job.Run, "run")...)
	if sc := j.span.SpanContext(); s.cfg.Tracer != nil {
		j.span.SetAttributes(semconv.MessagingSystemKey.String("redis"), semconv.MessagingDestinationName(d.stream),
			semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("answer"), semconv.MessagingConsumerGroupName("workers"))
		j.parent = crdt.Trace{ID: sc.TraceID(), Span: sc.SpanID(), Flags: byte(sc.TraceFlags())}.String()
	}
	return j, ctx
}

// end ends the attempt's span.
func (j *journey) end(outcome string) {
	if j != nil {
		j.span.SetAttributes(telemetry.KeyOutcome.String(outcome))
		j.span.End()
	}
}

// mark has a report carry the trace if it is one of those that are watched: the begin, the first piece and the done. An
// answer's other pieces are hundreds, and go the same way.
func (j *journey) mark(r *workpb.Report) {
	if j == nil {
		return
	}
	c := r.GetChunk()
	if c == nil || (c.Off == 0 && c.Text != "") {
		r.Traceparent = j.parent
	}
}

// asking starts the span of asking the model. The context that it returns is the model's.
func (j *journey) asking(ctx context.Context, q *llm.Job, provider string) (context.Context, func(llm.Result, error)) {
	if j == nil {
		return ctx, func(llm.Result, error) {}
	}
	ctx, sp := telemetry.Start(ctx, j.tracer, "chat "+q.Model, trace.SpanKindClient,
		genAIOperation.String("chat"), genAIProvider.String(provider), genAIModel.String(q.Model), genAISession.String(q.Session))
	return ctx, func(res llm.Result, err error) {
		if res.Fin != "" {
			sp.SetAttributes(genAIReasons.StringSlice([]string{res.Fin}))
		}
		if ctx.Err() != nil { // it was told to stop: no failure of the model
			sp.SetAttributes(telemetry.KeyOutcome.String(jobDropped))
			err = nil
		}
		telemetry.End(sp, err)
	}
}

// firstPiece calls observe with the time up to the first piece that emit is given.
func firstPiece(now func() time.Time, emit func(string) error, observe func(float64)) func(string) error {
	var once sync.Once
	since := now()
	return func(piece string) error {
		once.Do(func() { observe(now().Sub(since).Seconds()) })
		return emit(piece)
	}
}
