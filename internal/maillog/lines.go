package maillog

import (
	"bytes"
	"context"
	"log/slog"
	"time"
)

// textLine and jsonLine are the formats of that name without time and program,
// which stand in the header of whatever carries them.

func textLine(b []byte, e *event) []byte {
	var line bytes.Buffer
	h := &handler{out: &output{w: &line}, level: slog.LevelDebug}
	return append(b, render1(h, e, &line, time.Time{})...)
}

func jsonLine(b []byte, e *event) []byte {
	var line bytes.Buffer
	h := slog.NewJSONHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: forJSON})
	return append(b, render1(h, e, &line, e.time)...)
}

// render1 lets a handler write one event.
func render1(h slog.Handler, e *event, line *bytes.Buffer, at time.Time) []byte {
	r := slog.NewRecord(at, e.level, e.message, 0)
	for _, p := range e.pairs {
		r.AddAttrs(slog.String(p.key, p.value))
	}
	_ = h.Handle(context.Background(), r) // to a buffer
	return bytes.TrimSuffix(line.Bytes(), []byte("\n"))
}
