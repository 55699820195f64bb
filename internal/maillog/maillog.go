package maillog

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"
)

// Config is the section [log].
type Config struct {
	Format Format     `toml:"format"` // default "text"
	Level  slog.Level `toml:"level"`  // "debug", "info", "warn" or "error"; default "info"
}

// DefaultConfig prints text from level info on.
func DefaultConfig() Config { return Config{Format: Text, Level: slog.LevelInfo} }

// Format is how the log is written.
type Format string

// The formats.
const (
	Text Format = "text" // as Postfix does
	JSON Format = "json" // one object a line
)

// Validate refuses unknown words.
func (f Format) Validate() error {
	if f != Text && f != JSON {
		return fmt.Errorf("%q is unknown; write one of %q, %q", string(f), Text, JSON)
	}
	return nil
}

// New returns a logger that writes each event to w with one Write.
func New(w io.Writer, format Format, level slog.Leveler) (*slog.Logger, error) {
	if err := format.Validate(); err != nil {
		return nil, fmt.Errorf("maillog: format %w", err)
	}
	if format == JSON {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: forJSON})), nil
	}
	out := &output{w: w, program: "gatepost[" + strconv.Itoa(os.Getpid()) + "]: "}
	return slog.New(&handler{out: out, level: level}), nil
}

// output is what all handlers made from one share.
type output struct {
	program string
	lines   sync.Pool // of *[]byte

	mu sync.Mutex
	w  io.Writer
}

const (
	firstLine = 512     // bytes a new buffer holds
	largeLine = 8 << 10 // a buffer above is not kept
)

func (o *output) take() *[]byte {
	if b, ok := o.lines.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, firstLine)
	return &b
}

func (o *output) put(b *[]byte) {
	if cap(*b) > largeLine {
		return
	}
	*b = (*b)[:0]
	o.lines.Put(b)
}

func (o *output) write(line []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.w.Write(line)
	return err
}

// forJSON gives the JSON handler the bounds and units of the text format.
func forJSON(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		return slog.String("ts", a.Value.Time().UTC().Format(timeLayout))
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); len(s) > limitOf(a.Key) {
			a.Value = slog.StringValue(cut(s, limitOf(a.Key)))
		}
	case slog.KindDuration:
		a.Value = slog.Float64Value(float64(a.Value.Duration().Round(time.Millisecond)) / float64(time.Second))
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(cut(errorText(err), limitOf(a.Key)))
		}
	}
	return a
}
