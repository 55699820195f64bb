package maillog

import (
	"cmp"
	"errors"
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
	To     Target     `toml:"to"`     // default "stderr"
	Format Format     `toml:"format"` // default "text"
	Level  slog.Level `toml:"level"`  // "debug", "info", "warn" or "error"; default "info"
	// Also are further outputs, [log.also.NAME], each with a format and a level
	// of its own.
	Also map[string]Output `toml:"also"`
}

// Output is one place where the log goes.
type Output struct {
	To     Target     `toml:"to"`
	Format Format     `toml:"format"` // default "text"
	Level  slog.Level `toml:"level"`  // default "info"
}

// Validate returns all that is wrong with o.
func (o Output) Validate() error {
	return errors.Join(o.To.Validate(), cmp.Or(o.Format, Text).Validate())
}

// Validate returns all that is wrong with c.
func (c Config) Validate() error {
	errs := []error{Output{To: c.To, Format: c.Format}.Validate()}
	for name, o := range c.Also {
		if err := o.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("also.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// DefaultConfig prints text from level info on.
func DefaultConfig() Config { return Config{To: "stderr", Format: Text, Level: slog.LevelInfo} }

// Format is how the log is written.
type Format string

// The formats.
const (
	Text   Format = "text"   // as Postfix does
	JSON   Format = "json"   // one object a line
	Logfmt Format = "logfmt" // key=value only
	Syslog Format = "syslog" // RFC 5424 with structured data
	CEF    Format = "cef"    // for a SIEM
)

// Validate refuses unknown words.
func (f Format) Validate() error {
	switch f {
	case Text, JSON, Logfmt, Syslog, CEF:
		return nil
	}
	return fmt.Errorf(`%q is unknown; write one of "text", "json", "logfmt", "syslog", "cef"`, string(f))
}

// New returns a logger of text or JSON that writes each event to w with one
// Write. Open makes all others.
func New(w io.Writer, format Format, level slog.Leveler) (*slog.Logger, error) {
	if format != Text && format != JSON {
		return nil, fmt.Errorf("maillog: format %q is none of %q, %q", format, Text, JSON)
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
	a.Key = cut(a.Key, maxValue)
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
