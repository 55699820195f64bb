package attachments

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
)

type allowList struct {
	scope
	types             map[string]kind
	wide              []string // patterns of types that are not known
	macros, encrypted bool
	anyName           bool
}

// match holds a part against one allow list.
func (a *allowList) match(p *seen) match {
	if a.topOnly && p.Depth > 0 || p.isStructure() || p.isText() || p.isSignature() {
		return match{}
	}
	switch {
	case p.Encrypted && !a.encrypted:
		return match{mail.AttachmentEncrypted, "is encrypted"}
	case p.Encrypted && p.Length > 0 && p.detected == "":
		return match{}
	case p.Macros && !a.macros:
		return match{mail.AttachmentMacros, "may run macros"}
	}
	k, ok := a.types[p.detected]
	if !ok && !fitsAny(a.wide, p.detected) {
		return match{mail.AttachmentNotAllowed, "is " + kindName(p.detected) + ", which is not among what is accepted"}
	}
	if a.anyName {
		return match{}
	}
	return k.agrees(p)
}

func kindName(detected string) string {
	if detected == "" || detected == "application/octet-stream" {
		return "of an unknown kind"
	}
	return detected
}

// agrees holds what a part says of itself against what it is.
func (k kind) agrees(p *seen) match {
	fits := func(d string) bool { return isGeneric(d) || d == p.detected || fitsAny(k.declared, d) }
	if !fits(p.declared) {
		return match{mail.AttachmentMismatch, "is declared as " + p.declared + " and is " + p.detected}
	}
	for _, n := range p.names {
		_, ext := cutExtension(n)
		if ext != "" && !slices.Contains(k.extensions, ext) {
			return match{mail.AttachmentMismatch, "ends in ." + ext + " and is " + p.detected}
		}
	}
	return match{}
}

// isStructure tells what only holds other parts.
func (p *seen) isStructure() bool {
	return strings.HasPrefix(p.declared, "multipart/") && p.Archive == "" && !p.Program && len(p.names) == 0
}

// isText tells what is there to read: no attachment, and nothing else either.
func (p *seen) isText() bool {
	if len(p.names) > 0 || p.Depth > 0 || p.Program || p.Archive != "" || p.Encrypted {
		return false
	}
	switch {
	case p.declared != "" && p.declared != "text/plain" && p.declared != "text/html" && p.declared != "text/enriched" && !isReport(p.declared):
		return false
	case p.detected == "" || p.detected == "application/octet-stream" || p.detected == "application/json":
		return true
	}
	return strings.HasPrefix(p.detected, "text/") || strings.HasSuffix(p.detected, "xml")
}

// isReport tells the parts of notifications (RFC 3464, RFC 8098, RFC 5965).
func isReport(declared string) bool {
	switch declared {
	case "message/delivery-status", "message/disposition-notification", "message/feedback-report", "text/rfc822-headers", "message/global-delivery-status":
		return true
	}
	return false
}

// isSignature tells the signature of a signed message (RFC 1847), which is no
// attachment to its reader.
func (p *seen) isSignature() bool {
	switch p.declared {
	case "application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature":
		return p.Protected && p.Depth == 0 && p.Size <= maxSignature && !p.Program && p.Archive == "" && !isMedia(p.detected)
	}
	return false
}

const maxSignature = 64 << 10

func isMedia(detected string) bool {
	return strings.HasPrefix(detected, "text/html") || strings.HasPrefix(detected, "application/vnd.") || strings.HasPrefix(detected, "application/x-ms")
}
