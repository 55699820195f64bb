package dkim

import (
	"crypto"
	"fmt"
	"slices"
	"strings"
)

// Compare says in plain words what is wrong with the records that the DNS has in
// the place of k; "" where all is well. hint is what works but is probably not
// meant.
func (k *Key) Compare(texts []string) (wrong, hint string) {
	switch {
	case len(texts) == 0:
		return "there is no TXT record", ""
	case len(texts) > 1:
		return fmt.Sprintf("there are %d TXT records; which one counts is up to the reader: leave one", len(texts)), ""
	}
	r, err := ParseRecord(texts[0])
	switch public, _ := k.Private.Public().(interface{ Equal(crypto.PublicKey) bool }); {
	case err != nil:
		return "the record can't be read: " + strings.TrimPrefix(err.Error(), ErrRecord.Error()+": "), ""
	case r.Key == nil:
		return "the record says that the key is revoked (p= is empty)", ""
	case r.Type != k.Type():
		return fmt.Sprintf("the record is for a key of kind %s, ours is %s", r.Type, k.Type()), ""
	case !public.Equal(r.Key):
		return "the record has another key", ""
	}
	if err := r.ForMail(); err != nil {
		return "the record does not let the key sign: " + strings.TrimPrefix(err.Error(), ErrRecord.Error()+": "), ""
	}
	if slices.Contains(r.Flags, "y") {
		hint = "t=y says that it is only tried out: receivers may take signed mail for unsigned"
	}
	return "", hint
}

// ZoneLine writes the record of k as a line of a zone file, with its text in
// strings of at most 255 octets.
func (k *Key) ZoneLine() (string, error) {
	text, err := k.Record()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(k.Name() + ". IN TXT (")
	const longest = 255 // RFC 1035 3.3
	for ; len(text) > longest; text = text[longest:] {
		b.WriteString("\n\t\"" + text[:longest] + "\"")
	}
	b.WriteString("\n\t\"" + text + "\" )")
	return b.String(), nil
}
