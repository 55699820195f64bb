package maillog

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// handler writes lines. It never changes: WithAttrs and WithGroup return
// another one.
type handler struct {
	out    *output
	level  slog.Leveler
	groups string // "a.b." before each further key
	id     string // rendered
	client bool   // some attribute is the client
	attrs  []byte // rendered, each with ", " before it
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	child := *h
	child.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		child.look(a)
		child.attrs = appendAttr(child.attrs, h.groups, a)
	}
	return &child
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	child := *h
	child.groups += name + "."
	return &child
}

// look takes out what decides the beginning of the line.
func (h *handler) look(a slog.Attr) {
	if h.groups != "" {
		return
	}
	switch a.Key {
	case keyID:
		h.id = string(appendValue(nil, a.Key, a.Value))
		if h.id == `""` {
			h.id = ""
		}
	case keyClient:
		h.client = true
	}
}

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	line := h.out.take()
	defer h.out.put(line)
	b := (*line)[:0]
	if !r.Time.IsZero() {
		b = append(r.Time.UTC().AppendFormat(b, timeLayout), ' ')
	}
	b = append(b, h.out.program...)
	b = append(b, levelPrefix(r.Level)...)
	b = h.appendID(b, r)
	b = appendText(b, r.Message)
	end := len(b)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.groups, a)
		return true
	})
	if len(b) > end {
		b[end] = ':' // instead of the first comma
	}
	b = append(b, '\n')
	*line = b
	return h.out.write(b)
}

// appendID writes "ID: " or "NOQUEUE: ", which scripts look for.
func (h *handler) appendID(b []byte, r slog.Record) []byte {
	start, client := len(b), h.client
	if h.groups == "" {
		r.Attrs(func(a slog.Attr) bool {
			switch a.Key {
			case keyID:
				b = appendValue(b[:start], keyID, a.Value)
				if string(b[start:]) == `""` {
					b = b[:start]
				}
			case keyClient:
				client = true
			}
			return true
		})
	}
	switch {
	case len(b) > start:
	case h.id != "":
		b = append(b, h.id...)
	case client:
		b = append(b, "NOQUEUE"...)
	default:
		return b
	}
	return append(b, ": "...)
}

func levelPrefix(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug: "
	case l < slog.LevelWarn:
		return ""
	case l < slog.LevelError:
		return "warning: "
	}
	return "error: "
}

const (
	keyID     = "id"
	keyClient = "client"
)

// appendAttr writes ", key=value"; a group becomes its attributes.
func appendAttr(b []byte, groups string, a slog.Attr) []byte {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) || groups == "" && a.Key == keyID {
		return b
	}
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			groups += a.Key + "."
		}
		for _, member := range a.Value.Group() {
			b = appendAttr(b, groups, member)
		}
		return b
	}
	b = append(b, ", "...)
	b = appendKey(b, groups)
	b = appendKey(b, a.Key)
	b = append(b, '=')
	return appendValue(b, a.Key, a.Value)
}

// appendKey writes a key; ours are constants, but nobody can be sure.
func appendKey(b []byte, key string) []byte {
	if needsQuotes(key, false) || strings.ContainsRune(key, '=') {
		return appendQuoted(b, key)
	}
	return append(b, key...)
}
