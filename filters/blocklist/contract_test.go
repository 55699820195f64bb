package blocklist

import (
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{New: func(t *testing.T) filters.Step { return start(t, nil).Step() }})
}
