package icap

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// result is what a server said. Its zero value is nothing that it can say.
type result int

const (
	clean result = iota + 1
	infected
	violation // of a policy of its own
	unseen    // it could not look inside
)

type verdict struct {
	result     result
	name, text string
}

// blocked is the name of what the server replaces without a word.
const blocked = "ICAP.Blocked"

// judge makes a verdict of an answer, with the tag of the service. A bad word
// is believed whenever it is said; a good one only when the server had all.
func (c *conn) judge(r *reply, err error, sent *sending) (verdict, string, error) {
	if r == nil {
		return verdict{}, "", err
	}
	v, found := r.named()
	switch {
	case found:
		return v, r.tag(), nil
	case err != nil:
		return verdict{}, "", err
	case r.code == 204:
		v = verdict{result: clean}
	case r.code == 200:
		if v, err = c.compare(r, sent); err != nil {
			return verdict{}, "", err
		}
	default:
		return verdict{}, "", fmt.Errorf("reply %s", r.status)
	}
	if v.result != clean {
		return v, r.tag(), nil
	}
	switch whole, err := sent.outcome(r.code); {
	case err != nil:
		return verdict{}, "", err
	case !whole:
		return verdict{result: unseen, name: "preview only", text: "the server did not want the rest"}, r.tag(), nil
	}
	c.keep = !r.closes && c.r.Buffered() == 0 // what nobody asked for would answer the next question
	return v, r.tag(), nil
}

// named is the verdict of the fields with which servers say what they found;
// they are those of the Internet draft on ICAP extensions.
func (r *reply) named() (verdict, bool) {
	if found := r.get("X-Infection-Found"); found != "" {
		values := make(map[string]string)
		for _, p := range strings.Split(found, ";") {
			k, v, _ := strings.Cut(p, "=")
			values[strings.ToLower(strings.TrimSpace(k))] = strings.TrimSpace(v)
		}
		v := verdict{result: infected, name: plain(values["threat"])}
		switch values["type"] {
		case "1":
			v.result = violation
		case "2":
			v.result = unseen
		}
		return v, true
	}
	if id := r.get("X-Virus-ID"); id != "" && !strings.EqualFold(id, "no threats") && id != "-" {
		return verdict{result: infected, name: plain(id)}, true
	}
	if found := r.get("X-Violations-Found"); found != "" && found != "0" {
		lines := strings.Split(found, "\n") // count; then file, name, number, what was done of each
		v := verdict{result: infected, name: "unknown"}
		if len(lines) > 2 {
			v.name, v.text = plain(lines[2]), "in "+plain(lines[1])
		}
		return v, true
	}
	return verdict{}, false
}

// plain is a name fit for a log.
func plain(s string) string {
	if s = strings.TrimSpace(mail.CleanText(cut(s))); s == "" {
		return "unknown"
	}
	return s
}

// compare looks at what the server would pass on: the same octets are a yes,
// anything else a no.
func (c *conn) compare(r *reply, sent *sending) (verdict, error) {
	no := verdict{result: infected, name: blocked, text: strings.TrimSpace("in its place: " + r.inside.status)}
	if !r.inside.body {
		if r.get("Encapsulated") == "" {
			return verdict{}, errors.New("reply 200 without content")
		}
		return no, nil
	}
	sum := sha256.New()
	n, err := c.copyBody(sum, c.limit)
	if err != nil {
		return verdict{}, err
	}
	if whole, err := sent.outcome(r.code); err != nil {
		return verdict{}, err
	} else if whole && n == sent.size && bytes.Equal(sum.Sum(nil), sent.sum.Sum(nil)) && (r.inside.status == "" || strings.Contains(r.inside.status, " 200")) {
		return verdict{result: clean}, nil
	}
	return no, nil
}
