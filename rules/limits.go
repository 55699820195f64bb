package rules

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/rules/access"
)

// limits are the limits of one recipient, all set.
type limits struct {
	tag, quarantine, reject float64 // +Inf is off
	virus                   VirusAction
	unscanned               UnscannedAction
	ambiguous               AmbiguousAction
	dmarc                   DMARCAction
	auth                    Authentication   // the same for all
	attachments             AttachmentAction // "": each list's own
	of                      string           // ` for "vip@example.com"`, or ""
}

// limitSet has the limits of every recipient. Those of an override are merged
// with the less specific ones when it is made.
type limitSet struct {
	base limits
	of   map[string]limits
}

func newLimits(p Policy) (limitSet, error) {
	var errs access.Problems
	errs.Add(p.Limits.check("policy"))
	byKey := make(map[string]Limits, len(p.For))
	for _, name := range slices.Sorted(maps.Keys(p.For)) {
		where := "policy.for." + strconv.Quote(name)
		key, err := overrideKey(name)
		if err == nil {
			if _, twice := byKey[key]; twice {
				err = errors.New("the same as another one; remove one of them")
			}
		}
		errs.Note(where, err)
		errs.Add(p.For[name].check(where))
		byKey[key] = p.For[name]
	}
	set := limitSet{base: merge(p.Limits), of: make(map[string]limits, len(byKey))}
	set.base.auth = p.Authentication
	errs.Note("policy", set.base.ordered())
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		var chain []Limits
		for _, k := range lookupKeys(key) {
			if l, ok := byKey[k]; ok {
				chain = append(chain, l)
			}
		}
		l := merge(append(chain, p.Limits)...)
		l.of, l.auth = fmt.Sprintf(" for %q", key), p.Authentication
		errs.Note(fmt.Sprintf("policy.for.%q", key), l.ordered())
		set.of[key] = l
	}
	return set, errs.Join()
}

// merge takes each limit from the first that sets it.
func merge(chain ...Limits) limits {
	off := math.Inf(1)
	var tag, quarantine, reject *float64
	var l limits
	for _, c := range append(chain, Limits{Tag: &off, Quarantine: &off, Reject: &off, Virus: VirusReject, Unscanned: UnscannedQuarantine, Ambiguous: AmbiguousQuarantine, DMARC: DMARCHonour}) {
		tag, quarantine, reject = or(tag, c.Tag), or(quarantine, c.Quarantine), or(reject, c.Reject)
		if l.virus == "" {
			l.virus = c.Virus
		}
		if l.unscanned == "" {
			l.unscanned = c.Unscanned
		}
		if l.ambiguous == "" {
			l.ambiguous = c.Ambiguous
		}
		if l.attachments == "" {
			l.attachments = c.Attachments
		}
		if l.dmarc == "" {
			l.dmarc = c.DMARC
		}
	}
	l.tag, l.quarantine, l.reject = *tag, *quarantine, *reject
	return l
}

func or(a, b *float64) *float64 {
	if a != nil {
		return a
	}
	return b
}

// ordered refuses thresholds of which one hides another.
func (l limits) ordered() error {
	on := func(v float64) bool { return !math.IsInf(v, 1) }
	above := func(a string, x float64, b string, y float64) error {
		if !on(x) || !on(y) || x <= y {
			return nil
		}
		return fmt.Errorf("%s %s is above %s %s; write tag <= quarantine <= reject", a, score(x), b, score(y))
	}
	return errors.Join(
		above("tag", l.tag, "quarantine", l.quarantine),
		above("quarantine", l.quarantine, "reject", l.reject),
		above("tag", l.tag, "reject", l.reject),
	)
}

// overrideKey reads a key of policy.for.
func overrideKey(s string) (string, error) {
	if strings.Contains(s, "@") {
		a, err := mail.ParseAddress(s, true)
		if err != nil {
			return "", err
		}
		return mailboxName(a.Local, a.ASCIIDomain()), nil
	}
	name, below := strings.CutPrefix(s, ".")
	key, err := access.CanonicalDomain(name)
	if err != nil {
		return "", fmt.Errorf("%w; write user@example.com, example.com or .example.com", err)
	}
	if below {
		key = "." + key
	}
	return key, nil
}

func mailboxName(local, domain string) string { return strings.ToLower(local) + "@" + domain }

// find returns the limits of a recipient.
func (s *limitSet) find(to mail.Address) limits {
	if len(s.of) == 0 || to.Domain == "" {
		return s.base
	}
	for _, key := range lookupKeys(mailboxName(to.Local, to.ASCIIDomain())) {
		if l, ok := s.of[key]; ok {
			return l
		}
	}
	return s.base
}

// lookupKeys returns a key and those less specific, in order: u+d@sub.dom,
// u@sub.dom, sub.dom, .dom. It begins where key stands in that order.
func lookupKeys(key string) []string {
	var keys []string
	if at := strings.LastIndexByte(key, '@'); at >= 0 {
		keys = append(keys, key)
		if user, _, plus := strings.Cut(key[:at], "+"); plus && user != "" {
			keys = append(keys, user+key[at:])
		}
		key = key[at+1:]
	}
	keys = append(keys, key)
	for rest := strings.TrimPrefix(key, "."); ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return keys
		}
		keys = append(keys, rest[dot:])
		rest = rest[dot+1:]
	}
}
