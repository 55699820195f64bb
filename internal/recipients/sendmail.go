package recipients

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// virtusers is sendmail's virtusertable, read to know who there is.
type virtusers map[string]string // key in lower case: right side

func parseVirtusers(file, text string) (virtusers, error) {
	t := make(virtusers)
	err := eachLine(file, text, func(line string) error {
		at := strings.IndexAny(line, " \t")
		if at <= 0 {
			return errors.New("want a key, a blank, and where its mail goes")
		}
		k, value := strings.ToLower(line[:at]), strings.TrimSpace(line[at:])
		local, domain, ok := strings.Cut(k, "@")
		if !ok || domain == "" {
			return fmt.Errorf("%q: want user@domain or @domain", mail.CleanText(k))
		}
		name, err := mail.ParseDomain(domain)
		if err != nil {
			return fmt.Errorf("%q: %w", mail.CleanText(k), err)
		}
		k = local + "@" + mail.ASCIIDomain(name)
		if _, twice := t[k]; twice {
			return fmt.Errorf("%s is there twice; remove one of them", k)
		}
		if rest, is := strings.CutPrefix(value, "error:"); is {
			if r := refusal(rest); r.IsZero() {
				return fmt.Errorf("%q: write error:5.1.1:550 text, or error:nouser text", mail.CleanText(value))
			}
		}
		t[k] = value
		return nil
	})
	if err == nil && len(t) == 0 {
		err = fmt.Errorf("%s is empty: all mail would be refused", file)
	}
	return t, err
}

// maxTurns is how often an entry leads to another one.
const maxTurns = 10

func (t virtusers) ask(_ context.Context, a mail.Address) (answer, error) {
	local, domain := strings.ToLower(a.Local), a.ASCIIDomain()
	for turn := range maxTurns {
		value, ok := t.find(local, domain)
		if !ok && turn == 0 {
			return answer{}, nil
		}
		if !ok {
			break // it leads out of the table
		}
		if rest, is := strings.CutPrefix(value, "error:"); is {
			return refused(refusal(rest)), nil
		}
		to, err := mail.ParseAddress(expand(value, local), true)
		if err != nil || to.Domain == "" || strings.ToLower(to.Local) == local && to.ASCIIDomain() == domain {
			break // a local user, or itself
		}
		local, domain = strings.ToLower(to.Local), to.ASCIIDomain()
	}
	return answer{is: isKnown}, nil
}

// find looks an address up as sendmail does: whole, with its detail in the
// patterns ++ and +*, without it, and its domain.
func (t virtusers) find(local, domain string) (string, bool) {
	keys := []string{local + "@" + domain}
	user, detail, plus := strings.Cut(local, "+")
	if plus {
		if detail != "" {
			keys = append(keys, user+"++@"+domain)
		}
		keys = append(keys, user+"+*@"+domain, user+"@"+domain)
		if detail != "" {
			keys = append(keys, "++@"+domain)
		}
		keys = append(keys, "+*@"+domain)
	}
	for _, k := range append(keys, "@"+domain) {
		if value, ok := t[k]; ok {
			return value, true
		}
	}
	return "", false
}

// expand puts the local part, or what is before and behind its "+", into a right
// side. For the whole local part of an address without detail it is the same.
func expand(value, local string) string {
	user, detail, plus := strings.Cut(local, "+")
	behind := ""
	if plus {
		behind = "+" + detail
	}
	return strings.NewReplacer("%%", "%", "%1", user, "%2", detail, "%3", behind).Replace(value)
}

// refusal reads what stands behind "error:": "5.1.1:550 text", "nouser 550
// text", "550 text" and "nouser text". The zero Reply is none of them.
func refusal(s string) mail.Reply {
	detail := ""
	if word, rest, ok := strings.Cut(s, ":"); ok && strings.Count(word, ".") == 2 && strings.Trim(word, "0123456789.") == "" {
		_, detail, _ = strings.Cut(word, ".")
		s = rest
	} else if word, rest, ok := strings.Cut(s, " "); ok && word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		detail, s = "1.1", rest
	}
	if s == "" {
		return mail.Reply{}
	}
	r, ok := mail.ParseReply(s)
	if !ok || r.Code < 400 {
		r = mail.Reply{Code: 550, Text: s}
	}
	if r.Detail == "" {
		r.Detail = detail
	}
	if r.Detail == "" {
		r.Detail = "1.1"
	}
	return r
}

// refused is the answer of a source with words of its own.
func refused(r mail.Reply) answer {
	switch {
	case r.Code/100 == 4:
		return answer{isDeferred, r}
	case strings.HasPrefix(r.Detail, "1."):
		return answer{isUnknown, r}
	}
	return answer{isRefused, r}
}

// parseAliases reads the names of sendmail's aliases, in any of our domains.
// What they lead to is not looked at: it belongs to the host that expands them.
func parseAliases(file, text string) (*list, error) {
	l := newList("+")
	begun := false
	err := eachLine(file, text, func(line string) error {
		if line[0] == ' ' || line[0] == '\t' {
			if !begun {
				return errors.New("goes on, but nothing is before it")
			}
			return nil
		}
		name, _, ok := strings.Cut(line, ":")
		name = strings.Trim(name, " \t\"")
		if begun = ok && name != ""; !begun {
			return errors.New("want name: address, address")
		}
		return l.add(name)
	})
	if err == nil && len(l.addresses)+len(l.locals) == 0 {
		err = fmt.Errorf("%s is empty: all mail would be refused", file)
	}
	return l, err
}
