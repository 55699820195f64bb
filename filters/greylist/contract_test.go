package greylist

import (
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{
		New: func(t *testing.T) filters.Step { return load(t, nil).f.Step() },
		Broken: map[string]func(t *testing.T) filters.Step{"no store": func(t *testing.T) filters.Step {
			f, err := Load(DefaultConfig(), away{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return f.Step()
		}},
		Remembers: true,
	})
}
