package mime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

// Each message that hides a file shows it here, by its name or its content, or
// is told to be ambiguous or not looked into.
func TestHostile(t *testing.T) {
	all := testkit.HostileMail(testkit.EICAR())
	if len(all) < 444 {
		t.Errorf("only %d messages", len(all))
	}
	sum := sha256.Sum256([]byte(testkit.EICAR()))
	want := hex.EncodeToString(sum[:])
	var named, content, flagged, unseen, only int
	for _, h := range all {
		m, err := mail.ReadMessage(strings.NewReader(h.Raw), int64(len(h.Raw)))
		if errors.Is(err, mail.ErrHeader) {
			t.Errorf("%s: %v", h.Name, err)
			continue
		}
		seen := ""
		in := Walk(context.Background(), m, DefaultConfig(), func(p mail.Part, r io.Reader) error {
			b, err := io.ReadAll(r)
			if bytes.Contains(b, []byte(testkit.EICAR())) && p.SHA256 != "" {
				seen = p.SHA256
			}
			return err
		})
		byName, byContent := hasProgramName(in), seen != ""
		for _, p := range in.Parts {
			byContent = byContent || p.SHA256 == want
		}
		doubt := len(in.Ambiguous)+len(in.Unseen) > 0
		switch {
		case h.ByName && !byName && len(in.Ambiguous) == 0:
			t.Errorf("%s: the name is not found: %+v\n%s", h.Name, in.Parts, h.Raw)
		case !byName && !byContent && !doubt:
			t.Errorf("%s: found nothing: %+v\n%s", h.Name, in.Parts, h.Raw)
		}
		count(&named, byName)
		count(&content, byContent)
		count(&flagged, len(in.Ambiguous) > 0)
		count(&unseen, len(in.Unseen) > 0)
		count(&only, doubt && !byName && !byContent)
	}
	t.Logf("%d messages: %d found by name, %d by content, %d ambiguous, %d not seen whole; %d only told to be so", len(all), named, content, flagged, unseen, only)
}

func count(n *int, yes bool) {
	if yes {
		*n++
	}
}

func hasProgramName(in *mail.Inside) bool {
	for _, p := range in.Parts {
		for _, n := range p.Names {
			if strings.EqualFold(path.Ext(n), ".exe") {
				return true
			}
		}
	}
	return false
}
