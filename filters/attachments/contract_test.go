package attachments

import (
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
)

func TestContract(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{
		New: func(t *testing.T) filters.Step { return load1(t, DefaultConfig()).Step() },
		Prepare: func(tx *mail.Transaction) {
			if tx.Message != nil && tx.Message.Size() < 100_000 {
				tx.Inside = mime.Inspect(t.Context(), tx.Message, mime.DefaultConfig())
			} else {
				tx.Inside = &mail.Inside{}
			}
		},
	})
}
