package client

import (
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{New: func(t *testing.T) filters.Step {
		f, err := New(DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		return f.Step()
	}})
}
