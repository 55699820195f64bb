package policy

import (
	"fmt"
	"strings"

	"gatepost/internal/tomltext"
)

// who are patterns of addresses, clients or contents, as [[rule]] has them in
// from, to, client and what. One of them is enough, and none with a "!".
type who struct {
	lists []*list // of addresses and domains; those behind "!" are in not
	words []string
	globs []string
	not   *who
	empty bool // has nothing but a not
}

// patterns reads the texts of a key. one takes what is no list.
func (l *loader) patterns(s section, key string, one func(w *who, text string) error) *who {
	if !s.has(key) {
		return nil
	}
	w := &who{not: &who{}}
	texts := s.texts(key)
	if len(texts) == 0 {
		s.wrong(key, "names nobody", "remove it, or name somebody")
	}
	for _, text := range texts {
		to := w
		text, negated := strings.CutPrefix(strings.TrimSpace(text), "!")
		if negated {
			to = w.not
		}
		if name, ok := strings.CutPrefix(text, "list:"); ok {
			found := l.lists[name]
			if found == nil {
				s.wrong(key, fmt.Sprintf("there is no list %q", name), tomltext.DidYouMean(name, l.listNames()))
				continue
			}
			found.used = true
			to.lists = append(to.lists, found)
		} else if err := one(to, text); err != nil {
			s.wrongErr(key, err)
		}
	}
	w.empty = len(w.lists)+len(w.words)+len(w.globs) == 0
	return w
}

// own is the list of a key's own entries of a type.
func (w *who) own(kind ListType, s section, key string) *list {
	for _, l := range w.lists {
		if l.name == "" && l.kind == kind {
			return l
		}
	}
	l := newList("", kind)
	l.where, l.files = s.line(), []string{s.path}
	w.lists = append(w.lists, l)
	return l
}

// mailbox reads a pattern of from and to.
func mailbox(s section, key string) func(*who, string) error {
	return func(w *who, text string) error {
		if text == "<>" {
			w.words = append(w.words, "")
			return nil
		}
		kind := ListDomain
		if strings.Contains(text, "@") {
			kind = ListAddress
		}
		return w.own(kind, s, key).add(text, s.spot(key))
	}
}

// spot is where a key stands.
func (s section) spot(key string) spot { return spot{0, uint32(s.place(s.node(key)).Line)} }

// clients reads a pattern of client.
func clients(s section, key string) func(*who, string) error {
	return func(w *who, text string) error {
		switch text {
		case "ours", "unknown":
			w.words = append(w.words, text)
			return nil
		}
		if _, err := parsePrefix(text); err == nil || strings.Contains(text, "/") {
			return w.own(ListCIDR, s, key).add(text, s.spot(key))
		}
		return w.own(ListDomain, s, key).add(text, s.spot(key))
	}
}

var contents = []string{"program", "macros", "encrypted", "archive", "virus", "ambiguous", "unseen"}

// content reads a pattern of what.
func content(w *who, text string) error {
	for _, word := range contents {
		if text == word {
			w.words = append(w.words, text)
			return nil
		}
	}
	text = strings.ToLower(text)
	if !strings.ContainsAny(text, ".*/") {
		return fmt.Errorf("%q is not understood; %s, or write a name such as *.exe, or a media type such as application/pdf", clip(text), tomltext.DidYouMean(text, contents))
	}
	w.globs = append(w.globs, text)
	return nil
}

// holds reports whether some of w holds, and none of its not.
func (w *who) holds(ask func(*who) bool) bool {
	return (w.empty || ask(w)) && !ask(w.not)
}

// address is a condition on an address of the envelope.
type address struct {
	*who
	rcpt bool
}

func (a address) holds(r *Run) (bool, error) {
	box := r.env.Sender
	if a.rcpt {
		box = r.env.Rcpt
	}
	return a.who.holds(func(w *who) bool {
		for range w.words { // <>
			if box.Address == "" {
				return true
			}
		}
		for _, l := range w.lists {
			value := box.Address
			if l.kind == ListDomain || l.kind == ListHost {
				value = box.Domain
			}
			if value != "" && r.inList(l, value) {
				return true
			}
		}
		return false
	}), nil
}

// client is a condition on the client.
type client struct{ *who }

func (c client) holds(r *Run) (bool, error) {
	return c.who.holds(func(w *who) bool {
		for _, word := range w.words {
			if word == "ours" && r.env.Client.Ours || word == "unknown" && r.env.Client.Name == "" {
				return true
			}
		}
		for _, l := range w.lists {
			value := r.env.Client.Name
			if l.kind == ListCIDR {
				value = r.env.Client.IP
			}
			if value != "" && r.inList(l, value) {
				return true
			}
		}
		return false
	}), nil
}

// what is a condition on what is in the message.
type what struct{ *who }

func (c what) holds(r *Run) (bool, error) {
	return c.who.holds(func(w *who) bool {
		for _, word := range w.words {
			switch word {
			case "virus":
				if r.env.Virus != "" {
					return true
				}
			case "ambiguous":
				if len(r.env.Ambiguous) > 0 {
					return true
				}
			case "unseen":
				if len(r.env.Unseen) > 0 {
					return true
				}
			}
		}
		for i := range r.env.Parts {
			if w.hasPart(r, r.env.Parts[i]) {
				return true
			}
		}
		for _, l := range w.lists {
			for i := 0; l.kind == ListHost && i < len(r.env.URLs); i++ {
				if r.inList(l, r.env.URLs[i].Host) {
					return true
				}
			}
		}
		return false
	}), nil
}

func (w *who) hasPart(r *Run, p *Part) bool {
	for _, word := range w.words {
		if word == "program" && p.Program || word == "macros" && p.Macros || word == "encrypted" && p.Encrypted || word == "archive" && p.Archive != "" {
			return true
		}
	}
	for _, glob := range w.globs {
		r.charge(stepCost)
		if strings.Contains(glob, "/") && (globbed(glob, p.Type) || globbed(glob, p.Declared)) {
			return true
		}
		for _, name := range p.Names {
			if !strings.Contains(glob, "/") && globbed(glob, name) {
				return true
			}
		}
	}
	for _, l := range w.lists {
		switch l.kind {
		case ListHash:
			if p.SHA256 != "" && r.inList(l, p.SHA256) {
				return true
			}
		case ListString, ListRegexp:
			for _, name := range p.Names {
				if r.inList(l, name) {
					return true
				}
			}
		}
	}
	return false
}

// globbed matches a pattern of which only * stands for something, in time that
// grows with the length of both.
func globbed(glob, s string) bool {
	if s == "" {
		return false
	}
	parts := strings.Split(glob, "*")
	if len(parts) == 1 {
		return glob == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, last)
}
