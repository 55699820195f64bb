package history

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// A key is what a record is found by: a letter, and the value behind it. Names
// of hosts and domains are turned around, so that all below one stand together.
const (
	keySender       = 's' // address, in lower case
	keySenderDomain = 'S'
	keyAuthor       = 'f' // of From, where it is another
	keyAuthorDomain = 'F'
	keyRcpt         = 'r'
	keyRcptDomain   = 'R'
	keyClient       = 'c' // 16 bytes
	keyMessageID    = 'm'
	keyHash         = 'h' // 32 bytes
	keyHost         = 'u'
	keyRule         = 'p'
	keyVirus        = 'v'
)

const (
	mostKeys   = 2000 // of one record
	longestKey = 255
)

func makeKey(kind byte, value string) []byte {
	return append([]byte{kind}, cut(value, longestKey)...)
}

func addressKey(kind byte, address string) []byte { return makeKey(kind, lower(address)) }

// nameKey is the key of a domain: "www.example.com" is "com.example.www".
func nameKey(kind byte, name string) []byte {
	return makeKey(kind, turned(mail.ASCIIDomain(lower(name))))
}

func turned(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}

func clientKey(a netip.Addr) []byte {
	b := a.As16()
	return append([]byte{keyClient}, b[:]...)
}

func messageIDKey(id string) []byte {
	return makeKey(keyMessageID, strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(id), "<"), ">"))
}

func hashKey(sum string) ([]byte, bool) {
	b, err := hex.DecodeString(sum)
	return append([]byte{keyHash}, b...), err == nil && len(b) == 32
}

// keys are those of a record, each once. They are made of what is kept, so that
// the same come out when it is removed.
func (r *Record) keys() [][]byte {
	var all [][]byte
	seen := make(map[string]bool)
	add := func(key []byte) {
		if len(key) > 1 && !seen[string(key)] && len(all) < mostKeys {
			seen[string(key)] = true
			all = append(all, key)
		}
	}
	addAddress := func(kind, domainKind byte, address string) {
		add(addressKey(kind, address))
		if domain := domainOf(address); domain != "" {
			add(nameKey(domainKind, domain))
		}
	}
	if a := r.addr(); a.IsValid() {
		add(clientKey(a))
	}
	addAddress(keySender, keySenderDomain, r.Sender.Address)
	if author := authorOf(r.From); author != "" && !strings.EqualFold(author, r.Sender.Address) {
		addAddress(keyAuthor, keyAuthorDomain, author)
	}
	for _, p := range r.Recipients {
		addAddress(keyRcpt, keyRcptDomain, p.Address)
	}
	add(messageIDKey(r.MessageID))
	for _, h := range r.Rules {
		add(makeKey(keyRule, h.Rule))
	}
	for _, f := range r.Findings {
		if f.Name == mail.FindingVirus {
			add(makeKey(keyVirus, f.Value))
		}
	}
	if r.Inside == nil {
		return all
	}
	for _, p := range r.Inside.Parts {
		if key, ok := hashKey(p.SHA256); ok {
			add(key)
		}
	}
	for _, u := range r.Inside.URLs {
		add(nameKey(keyHost, u.Host))
	}
	return all
}

func domainOf(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return address[i+1:]
	}
	return ""
}

// authorOf is the first address of a From field that was decoded.
func authorOf(from string) string {
	if at := strings.LastIndexByte(from, '<'); at >= 0 {
		address, _, _ := strings.Cut(from[at+1:], ">")
		return strings.TrimSpace(address)
	}
	for word := range strings.FieldsSeq(from) {
		if strings.Contains(word, "@") {
			return strings.Trim(word, ",;()")
		}
	}
	return ""
}
