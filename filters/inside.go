package filters

import (
	"context"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// insideFilter is in whose name findings stand about how a message is built.
const insideFilter = "mime"

// inspect takes the message apart as it stands, where somebody wants to know.
func (h *hearing) inspect(ctx context.Context) {
	if h.m.cfg.Inspect == nil || h.tx.Message == nil {
		return
	}
	h.tx.Inside = h.m.cfg.Inspect(ctx, h.tx.Message)
	found := slices.DeleteFunc(slices.Clone(h.tx.Findings), func(f mail.Finding) bool { return f.Filter == insideFilter })
	h.tx.Findings = append(found, insideFindings(h.tx.Inside)...)
}

// insideFindings is what the policy is to know: that mail programs may see
// something else than we do, and that we did not see all.
func insideFindings(in *mail.Inside) []mail.Finding {
	var found []mail.Finding
	for _, why := range in.Ambiguous {
		found = append(found, mail.Finding{Filter: insideFilter, Name: mail.FindingAmbiguous, Value: mail.CleanText(why)})
	}
	for _, why := range in.Unseen {
		found = append(found, mail.Finding{Filter: insideFilter, Name: mail.FindingNotScanned, Value: mail.CleanText(why)})
	}
	return found
}

// rebuilds reports whether what is in a message may be other after the edits.
func rebuilds(edits []mail.Edit) bool {
	return slices.ContainsFunc(edits, func(e mail.Edit) bool {
		switch e := e.(type) {
		case mail.ReplaceBody, mail.DeleteHeader:
			return true
		case mail.InsertHeader:
			return isStructure(e.Field)
		case mail.ChangeHeader:
			return true
		}
		return false
	})
}

// isStructure reports whether a field tells how a message is built.
func isStructure(f mail.Field) bool {
	name := strings.ToLower(f.Name())
	return strings.HasPrefix(name, "content-") || name == "mime-version"
}
