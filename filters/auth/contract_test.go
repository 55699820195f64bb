package auth

import (
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// Servers that don't answer are results here, temperror, not errors.
func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{New: func(t *testing.T) filters.Step { return newLab(t, nil).Step() }})
}
