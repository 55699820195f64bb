package config

import (
	"fmt"
	"slices"
)

// Format is how the log is written.
type Format string

// The formats.
const (
	Text Format = "text" // key=value, in Postfix's style
	JSON Format = "json" // one object a line
)

// Validate refuses what is no format.
func (f Format) Validate() error { return oneOf(f, Text, JSON) }

// Level is how much is logged.
type Level string

// The levels.
const (
	Debug   Level = "debug"
	Info    Level = "info"
	Warning Level = "warning"
	Error   Level = "error"
)

// Validate refuses what is no level.
func (l Level) Validate() error { return oneOf(l, Debug, Info, Warning, Error) }

func oneOf[T ~string](got T, words ...T) error {
	if slices.Contains(words, got) {
		return nil
	}
	known := make([]string, len(words))
	for i, w := range words {
		known[i] = string(w)
	}
	return fmt.Errorf("%q is unknown; %s", string(got), didYouMean(string(got), known))
}
