package access

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// Requirement is a value of TLS_Clt:, [TEMP+|PERM+] VERIFY[:bits] or ENCR:bits,
// and behind a + what the certificate must say, joined by ++. All must hold.
type Requirement struct {
	Permanent bool // refuse with 554, not 454
	Verify    bool // a certificate that was verified
	Bits      int  // of the cipher, at least
	Names     []NameRule
}

// NameRule is something that a certificate must say.
type NameRule struct {
	Of   string // "CN" or "CS", the subject
	Want string // "": the name of the client, for CN
}

// TLSState is what is known of a connection.
type TLSState struct {
	On       bool
	Verified bool
	Bits     int
	CN       string // of the client's certificate
	Subject  string
}

func parseRequirement(s string) (*Requirement, error) {
	wrong := fmt.Errorf("TLS_Clt: takes [TEMP+|PERM+] and VERIFY, VERIFY:bits or ENCR:bits, not %q", s)
	r := &Requirement{}
	rest, permanent := cutKeyword(s, "PERM+")
	r.Permanent = permanent
	if !permanent {
		rest, _ = cutKeyword(s, "TEMP+")
	}
	what, names, _ := strings.Cut(rest, "+")
	word, bits, hasBits := strings.Cut(what, ":")
	switch strings.ToUpper(word) {
	case "VERIFY":
		r.Verify = true
	case "ENCR":
		if !hasBits {
			return nil, wrong
		}
	default:
		return nil, wrong
	}
	if hasBits {
		n, err := strconv.Atoi(bits)
		if err != nil || n < 0 || n > 4096 || strconv.Itoa(n) != bits {
			return nil, wrong
		}
		r.Bits = n
	}
	if names == "" {
		if strings.HasSuffix(s, "+") {
			return nil, wrong
		}
		return r, nil
	}
	for _, name := range strings.Split(names, "++") {
		rule, err := parseNameRule(name)
		if err != nil {
			return nil, err
		}
		r.Names = append(r.Names, rule)
	}
	return r, nil
}

func parseNameRule(s string) (NameRule, error) {
	of, want, _ := strings.Cut(s, ":")
	of = strings.ToUpper(of)
	switch {
	case of == "CI", of == "CITAG":
		return NameRule{}, errors.New("the issuer is not asked for here; name the issuers that are believed in the listener")
	case of == "CS" && strings.HasPrefix(want, "/"):
		return NameRule{}, fmt.Errorf("%q is no subject as we know it; write it as the log has it, like CN=mx.example.com,O=Example", want)
	case of == "CN", of == "CS" && want != "":
		return NameRule{of, unescape(want)}, nil
	}
	return NameRule{}, fmt.Errorf("%q asks for nothing that is known; write CN, CN:name or CS:subject", s)
}

// unescape undoes +HH, as which a name's special characters are written.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Check returns what a client is told that does not meet r, the zero Reply
// where it does. What is not known is not met.
func (r *Requirement) Check(c Client, s TLSState) mail.Reply {
	switch {
	case r.Verify && !s.On:
		return r.refuse("authentication required")
	case r.Verify && !s.Verified:
		return r.refuse("authentication failed")
	case !s.On && r.Bits > 0, s.Bits < r.Bits:
		return r.refuse(fmt.Sprintf("encryption too weak %d less than %d", s.Bits, r.Bits))
	}
	for _, n := range r.Names {
		have, want, what := s.CN, n.Want, "CN"
		if n.Of == "CS" {
			have, what = s.Subject, "Cert Subject"
		} else if want == "" {
			want = c.Name
		}
		if !s.Verified || want == "" || !strings.EqualFold(have, want) {
			return r.refuse(fmt.Sprintf("%s %s does not match %s", what, have, want))
		}
	}
	return mail.Reply{}
}

func (r *Requirement) refuse(text string) mail.Reply {
	if r.Permanent {
		return mail.Reply{Code: 554, Detail: "7.0", Text: text}
	}
	return mail.Reply{Code: 454, Detail: "7.0", Text: text}
}
