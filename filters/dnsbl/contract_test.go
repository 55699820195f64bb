package dnsbl

import (
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// Lists that don't answer are findings here, not errors: see TestFailures.
func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{New: func(t *testing.T) filters.Step { return start(t, lists()).Step() }})
}
