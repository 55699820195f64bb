package maillog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is one line of the log, taken apart, for formats that are not text.
type event struct {
	time    time.Time
	level   slog.Level
	message string
	pairs   []pair // in their order, the ID among them
}

// pair is an attribute; its value is cut to the bounds of the log, and as it
// came in all else.
type pair struct{ key, value string }

// get returns the value of a key, the last one where there are several.
func (e *event) get(key string) string {
	for _, p := range slices.Backward(e.pairs) {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

// render appends an event in a format, without the end of the line.
type render func(b []byte, e *event) []byte

// eventHandler gives each event to one function.
type eventHandler struct {
	level  slog.Leveler
	emit   func(*event) error
	groups string
	pairs  []pair
}

// Enabled implements slog.Handler.
func (h *eventHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements slog.Handler.
func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	child := *h
	child.pairs = slices.Clip(h.pairs)
	for _, a := range attrs {
		child.pairs = appendPair(child.pairs, h.groups, a)
	}
	return &child
}

// WithGroup implements slog.Handler.
func (h *eventHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	child := *h
	child.groups += name + "."
	return &child
}

// Handle implements slog.Handler.
func (h *eventHandler) Handle(_ context.Context, r slog.Record) error {
	e := event{time: r.Time, level: r.Level, message: cut(r.Message, maxValue), pairs: slices.Clip(h.pairs)}
	r.Attrs(func(a slog.Attr) bool {
		e.pairs = appendPair(e.pairs, h.groups, a)
		return true
	})
	return h.emit(&e)
}

// appendPair appends an attribute; a group becomes its attributes.
func appendPair(pairs []pair, groups string, a slog.Attr) []pair {
	a.Value = a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return pairs
	case a.Value.Kind() != slog.KindGroup:
		return append(pairs, pair{cut(groups+a.Key, maxValue), plainValue(a.Key, a.Value)})
	case a.Key != "":
		groups += a.Key + "."
	}
	for _, member := range a.Value.Group() {
		pairs = appendPair(pairs, groups, member)
	}
	return pairs
}

// plainValue is a value without quotes or brackets.
func plainValue(key string, v slog.Value) string {
	switch v.Kind() {
	case slog.KindString:
		return cut(v.String(), limitOf(key))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return cut(errorText(x), limitOf(key))
		case []string:
			return cut(strings.Join(x, " "), limitOf(key))
		}
		return cut(fmt.Sprint(v.Any()), limitOf(key))
	}
	return string(appendValue(nil, key, v))
}

// levelName is the word for a level.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}

// logfmt writes key=value pairs only.
func logfmt(b []byte, e *event) []byte {
	if !e.time.IsZero() {
		b = append(b, "ts="...)
		b = append(e.time.UTC().AppendFormat(b, timeLayout), ' ')
	}
	b = append(b, "level="...)
	b = append(b, levelName(e.level)...)
	b = appendLogfmt(b, "msg", e.message)
	for _, p := range e.pairs {
		b = appendLogfmt(b, p.key, p.value)
	}
	return b
}

func appendLogfmt(b []byte, key, value string) []byte {
	b = append(b, ' ')
	b = append(b, logfmtKey(key)...)
	b = append(b, '=')
	if value == "" || needsQuotes(value, false) || strings.ContainsRune(value, '=') {
		return strconv.AppendQuote(b, value)
	}
	return append(b, value...)
}

// logfmtKey: keys can't be quoted there.
func logfmtKey(key string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '=' || r == '"' || r > '~' {
			return '_'
		}
		return r
	}, key)
}
