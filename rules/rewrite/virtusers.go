package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Recipients rewrites recipients on the way in.
type Recipients struct {
	virtusers table
	virtual   domains // whose addresses are looked up in it
	aliases   map[string][]mail.Address
	local     domains // whose local parts are aliases
}

// Target is what becomes of one recipient.
type Target struct {
	// To is who gets the message in the recipient's place; only the recipient
	// itself where nothing is written about it.
	To []mail.Address
	// Refusal is what the table says to senders instead.
	Refusal mail.Reply
}

// Limits on what one recipient may become.
const (
	maxSteps   = 20
	maxTargets = 1000
)

// Rewrite follows the tables from one recipient. Its error says where they are
// wrong: the recipient is to be put off then.
func (r *Recipients) Rewrite(a mail.Address) (Target, error) {
	w := walk{r: r, seen: make(map[mail.Address]bool)}
	if err := w.follow(a, 0); err != nil {
		return Target{}, err
	}
	if len(w.to) == 0 && w.refusal.IsZero() {
		w.to = []mail.Address{a} // a loop of nothing but itself
	}
	if len(w.to) > 0 {
		w.refusal = mail.Reply{}
	}
	return Target{To: w.to, Refusal: w.refusal}, nil
}

type walk struct {
	r       *Recipients
	seen    map[mail.Address]bool
	to      []mail.Address
	refusal mail.Reply
}

func (w *walk) follow(a mail.Address, steps int) error {
	switch {
	case steps > maxSteps:
		return fmt.Errorf("more than %d rewritings from one address; is there a loop?", maxSteps)
	case len(w.to) >= maxTargets:
		return fmt.Errorf("one address becomes more than %d", maxTargets)
	case w.seen[a]:
		return nil
	}
	w.seen[a] = true
	value, args, found := w.r.virtuser(a)
	if found {
		if rest, is := strings.CutPrefix(value, "error:"); is {
			reply, err := refusal(rest)
			if w.refusal.IsZero() {
				w.refusal = reply
			}
			return err
		}
		b, err := w.r.target(expand(value, args...), a.Domain)
		if err != nil {
			return err
		}
		if b != a {
			return w.follow(b, steps+1)
		}
	}
	list, ok := w.r.alias(a)
	if !ok {
		if !slices.Contains(w.to, a) {
			w.to = append(w.to, a)
		}
		return nil
	}
	for _, b := range list {
		if b.Domain == "" {
			b.Domain = a.Domain
		}
		if b == a { // "joe: joe, archive": himself, without another look
			w.to = append(w.to, a)
			continue
		}
		if err := w.follow(b, steps+1); err != nil {
			return err
		}
	}
	return nil
}

// target reads the right side of the table. Without a domain it is of the same.
func (r *Recipients) target(s, domain string) (mail.Address, error) {
	if !strings.Contains(s, "@") {
		s += "@" + domain
	}
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		return a, fmt.Errorf("virtusertable: %q: %w", mail.CleanText(s), err)
	}
	return a, nil
}

// virtuser looks an address up in sendmail's order.
func (r *Recipients) virtuser(a mail.Address) (value string, args []string, ok bool) {
	domain := a.ASCIIDomain()
	if len(r.virtusers) == 0 || domain == "" || !r.virtual.contains(domain) {
		return "", nil, false
	}
	local := strings.ToLower(a.Local)
	user, detail, plus := cutDetail(a.Local)
	lowered, _, _ := cutDetail(local)
	type key struct {
		text string
		args []string
	}
	keys := []key{{local, []string{a.Local}}}
	if plus {
		whole := []string{user, detail, "+" + detail}
		if detail != "" {
			keys = append(keys, key{lowered + "++", whole})
		}
		keys = append(keys, key{lowered + "+*", whole}, key{lowered, whole})
		if detail != "" {
			keys = append(keys, key{"++", whole})
		}
		keys = append(keys, key{"+*", whole}, key{"", whole})
	} else {
		keys = append(keys, key{"", []string{a.Local}})
	}
	for _, k := range keys {
		for _, at := range []string{"@" + domain, "@"} {
			if e, found := r.virtusers[k.text+at]; found {
				return e.value, k.args, true
			}
		}
	}
	return "", nil, false
}
