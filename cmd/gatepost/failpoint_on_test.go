//go:build failpoint

package main

import (
	"errors"
	"syscall"
	"testing"
)

func TestFailpoint(t *testing.T) {
	step, other := allSteps()[0], allSteps()[1]
	t.Setenv(failpointVariable, step+"=eio@2,"+step+"=enospc@4,"+other+"=eio")
	hit, err := failpoint()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, syscall.EIO, nil, syscall.ENOSPC, nil} {
		if got := hit(step); !errors.Is(got, want) {
			t.Errorf("hit %d: %v, want %v", i+1, got, want)
		}
	}
	if got := hit(other); !errors.Is(got, syscall.EIO) {
		t.Errorf("without a number the first hit: %v, want EIO", got)
	}
	for _, bad := range []string{"nonsense=kill", step, step + "=explode", step + "=eio@0", step + "=eio@x"} {
		t.Setenv(failpointVariable, bad)
		if _, err := failpoint(); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
