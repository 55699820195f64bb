package mime

import (
	"strings"
)

// structure is what one reading of a header says about the content.
type structure struct {
	media       string // as declared, in lower case; "" for none
	multipart   bool
	leaf        bool // also of a message, which is a part that has one in it
	message     bool
	boundaries  []string
	encodings   []string // canonical; "" is as it stands
	charset     string
	names       []string
	inline      bool
	undeclared  bool // nothing says clearly what the content is
	smime, pgp  bool
	digest      bool
	signedParts bool
	cryptParts  bool
}

func (w *walker) structure(e *entity, h header) structure {
	r := structure{encodings: w.encodings(h), names: w.namesOf(h), inline: true}
	w.types(e, h, &r)
	dispositions := h.all("content-disposition")
	for i, f := range dispositions {
		first := parseStructured(f.raw).first
		if strings.HasPrefix(first, "attach") {
			r.inline = false
		}
		if i > 0 && first != parseStructured(dispositions[0].raw).first {
			w.ambiguous(Disposition)
		}
	}
	if r.multipart && (len(r.names) > 0 || r.encodings[0] != "") {
		r.leaf = true
	}
	return r
}

const maxReadings = 5 // of one field

// types reads the Content-Type fields.
func (w *walker) types(e *entity, h header, r *structure) {
	fields := h.all("content-type")
	if len(fields) > maxReadings {
		w.unseen(OverReadings)
		fields = fields[:maxReadings]
	}
	var media []string
	for _, f := range fields {
		s := parseStructured(f.raw, "boundary")
		for _, m := range mediaTypes(s) {
			media = with(media, m)
		}
		boundaries, sure := s.values("boundary")
		if sure < len(boundaries) && sure > 0 {
			w.ambiguous(BoundaryDiffers)
		}
		for _, b := range boundaries {
			r.boundaries = with(r.boundaries, b)
		}
		if c, _ := parseStructured(f.raw, "charset").values("charset"); len(c) > 0 && r.charset == "" {
			r.charset = strings.ToLower(c[0])
		}
	}
	switch {
	case len(fields) == 0 && e.digest:
		media = []string{"message/rfc822"}
	case len(fields) == 0:
		r.undeclared = true
	case len(media) == 0:
		r.undeclared = true
		if len(r.boundaries) > 0 {
			r.multipart, r.leaf = true, true
			w.ambiguous(TypeDiffers)
		}
	case len(media) > 1:
		w.ambiguous(TypeDiffers)
	}
	for i, m := range media {
		if i == 0 {
			r.media = m
		}
		r.add(m)
	}
	r.leaf = r.leaf || len(media) == 0
}

// add takes in what a media type says.
func (r *structure) add(m string) {
	switch {
	case strings.HasPrefix(m, "multipart/") || m == "multipart":
		r.multipart = true
		r.digest = r.digest || m == "multipart/digest"
		r.signedParts = r.signedParts || m == "multipart/signed"
		r.cryptParts = r.cryptParts || m == "multipart/encrypted"
	case strings.HasPrefix(m, "message/") && !isReport(m):
		r.leaf, r.message = true, true
	default:
		r.leaf = true
		r.smime = r.smime || m == "application/pkcs7-mime" || m == "application/x-pkcs7-mime"
		r.pgp = r.pgp || m == "application/pgp-encrypted" || m == "application/pgp"
	}
}

// isReport reports whether there is no message in a "message/…".
func isReport(m string) bool {
	switch m {
	case "message/delivery-status", "message/disposition-notification", "message/feedback-report",
		"message/global-delivery-status", "message/global-disposition-notification", "message/tracking-status":
		return true
	}
	return false
}

// mediaTypes are what programs may take for the type of a field.
func mediaTypes(s structured) []string {
	var found []string
	if kind, sub, ok := strings.Cut(s.first, "/"); ok {
		kind, sub = strings.TrimSpace(kind), strings.TrimSpace(sub)
		if isToken(kind) && isToken(sub) {
			return []string{kind + "/" + sub}
		}
		if word, _, ok := strings.Cut(sub, " "); ok && isToken(kind) && isToken(word) {
			found = append(found, kind+"/"+word)
		}
	}
	if s.first == "multipart" {
		return []string{"multipart/mixed"}
	}
	lower := asciiLower(s.raw)
	for _, structural := range []string{"multipart/", "message/"} {
		if i := strings.Index(lower, structural); i >= 0 {
			end := i + len(structural)
			for end < len(lower) && isTokenByte(lower[end]) {
				end++
			}
			found = with(found, lower[i:end])
		}
	}
	return found
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

// encodings are the transfer encodings that programs may see, first that of most
// of them.
func (w *walker) encodings(h header) []string {
	var found []string
	odd := false
	for _, f := range h.all("content-transfer-encoding") {
		name, clear := encodingName(f.value)
		found = with(found, name)
		if !clear {
			odd = true
			found = with(found, "")
		}
	}
	if len(found) == 0 {
		return []string{""}
	}
	if odd || len(found) > 1 {
		w.ambiguous(EncodingDiffers)
	}
	if len(found) > maxReadings {
		w.unseen(OverReadings)
		found = found[:maxReadings]
	}
	return found
}

// encodingName reads one field. Not clear: some programs don't understand it.
func encodingName(value string) (name string, clear bool) {
	plain := strings.ToLower(strings.Trim(value, " \t"))
	if n, ok := knownEncoding(plain); ok {
		return n, true
	}
	loose := strings.Trim(strings.Map(func(r rune) rune {
		if r <= ' ' || r == '"' || r == '\'' || r == 0x7f {
			return -1
		}
		return r
	}, withoutComments(plain)), ";,.:")
	if n, ok := knownEncoding(loose); ok {
		return n, n == ""
	}
	for _, word := range []string{"base64", "base-64", "quoted", "uuencode"} {
		if strings.Contains(loose, word) {
			n, _ := knownEncoding(map[string]string{"base-64": "base64", "quoted": "quoted-printable"}[word])
			if n == "" {
				n = word
			}
			return n, false
		}
	}
	return "", true
}

func knownEncoding(s string) (string, bool) {
	switch s {
	case "", "7bit", "8bit", "binary":
		return "", true
	case "base64", "quoted-printable":
		return s, true
	case "x-uuencode", "uuencode", "x-uue", "uue":
		return "uuencode", true
	}
	return "", false
}
