package rates

import (
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{
		New: func(t *testing.T) filters.Step {
			return setUp(t, Config{Client: Limits{MessageLimits: MessageLimits{Messages: rate(10, time.Hour), Recipients: rate(10, time.Hour)}}}, "").Step()
		},
		Broken: map[string]func(t *testing.T) filters.Step{"no store": func(t *testing.T) filters.Step {
			f, err := New(Config{Client: Limits{MessageLimits: MessageLimits{Recipients: rate(1, time.Hour)}}, Timeout: time.Second, OnError: filters.TempFail}, away{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return f.Step()
		}},
		Remembers: true,
	})
}
