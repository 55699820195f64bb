package spool

import (
	"reflect"
	"testing"

	"gatepost/internal/mail"
)

// What the sender was told of is on the disk as a status of its own.
func TestToldOnDisk(t *testing.T) {
	p := Progress{State: Queue, Recipients: []Recipient{{Status: mail.Deferred}, {Status: mail.Failed}, {Status: mail.Failed, Told: true}, {Status: mail.Delivered}}}
	id, got, err := decodeProgress(formatVersion, encodeProgress(nil, "x1", &p))
	if err != nil || id != "x1" || !reflect.DeepEqual(got.Recipients, p.Recipients) {
		t.Errorf("%s %+v %v", id, got.Recipients, err)
	}
	if err := checkProgress("x1", &Progress{State: Queue, Recipients: []Recipient{{Told: true}}}, 1); err == nil {
		t.Error("told of a recipient that did not fail")
	}
}
