package backscatter

import (
	"io"
	"strings"
)

// Rule decides what becomes of a bounce.
type Rule struct {
	Limit Score    // a cause whose score is above it is spam
	Hosts []string // the names under which this host writes Received and Reporting-MTA
}

// Candidate is a message in a queue, as far as its envelope and its queue tell.
type Candidate struct {
	Null       bool     // its envelope sender is the null sender
	Foreign    string   // how the queue knows that it was not made by this host; "" where it was
	Recipients []string // of the envelope
	Verdict    Score    // our own, of the message that is returned; zero where it is not known
	User       string   // who had authenticated to send that message
}

// Decision is what is to become of a message, and why.
type Decision struct {
	Delete bool
	Reason string // in words, for people
	Cause  Cause
}

// Cause is the message that came back, as its header tells.
type Cause struct {
	From, Subject, MessageID string
	Score                    Score // zero where none is known
}

// Judge decides about a message. It reads Longest bytes of it at most.
func (r Rule) Judge(c Candidate, content io.Reader) Decision {
	if why := c.obstacle(); why != "" {
		return Decision{Reason: why}
	}
	rep, err := parseReport(content)
	if err != nil {
		return Decision{Reason: err.Error()}
	}
	d := Decision{Cause: Cause{
		From: get(rep.returned, "From"), Subject: get(rep.returned, "Subject"), MessageID: get(rep.returned, "Message-ID"),
	}}
	if d.Reason = r.obstacle(rep); d.Reason != "" {
		return d
	}
	source := "our own verdict"
	if d.Cause.Score = c.Verdict; c.Verdict.IsZero() {
		source = "the header of the returned message"
		var known bool
		if d.Cause.Score, known = scoreOf(rep.returned); !known {
			d.Reason = "the returned message has no spam score"
			return d
		}
	}
	d.Delete = d.Cause.Score.Above(r.Limit)
	d.Reason = "score " + d.Cause.Score.String() + " (" + source + ") is not above " + r.Limit.String()
	if d.Delete {
		d.Reason = "score " + d.Cause.Score.String() + " (" + source + ") is above " + r.Limit.String()
	}
	return d
}

// obstacle is why the envelope alone keeps a message.
func (c Candidate) obstacle() string {
	switch {
	case !c.Null:
		return "it has a sender: not a bounce"
	case c.Foreign != "":
		return c.Foreign
	case len(c.Recipients) != 1:
		return "a bounce has one recipient, it has not"
	case c.User != "":
		return "its sender had authenticated"
	}
	// Copies for the operator go to these.
	local, _, _ := strings.Cut(c.Recipients[0], "@")
	if strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "double-bounce") || strings.EqualFold(local, "mailer-daemon") {
		return "it is for the operator"
	}
	return ""
}

// obstacle is why a report is kept, whatever its cause scored.
func (r Rule) obstacle(rep report) string {
	if !strings.Contains(strings.ToLower(get(rep.header, "From")), "mailer-daemon") {
		return "not from MAILER-DAEMON"
	}
	if strings.Contains(strings.ToLower(get(rep.header, "Auto-Submitted")), "postmaster") ||
		strings.HasPrefix(strings.ToLower(get(rep.header, "Subject")), "postmaster ") { // "Postmaster copy: …"
		return "it is for the operator"
	}
	hops := 0
	for _, f := range rep.header {
		if !f.is("Received") {
			continue
		}
		if hops++; hops > 1 || !parseHop(f.value).bornHere(r.Hosts) {
			return "it came from elsewhere: its Received fields say so"
		}
	}
	kind, mta, _ := strings.Cut(rep.mta, ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "dns") || !isHost(strings.TrimSpace(mta), r.Hosts) {
		return "another host reports: " + quoteShort(rep.mta)
	}
	if len(rep.actions) == 0 {
		return "it reports no failure"
	}
	for _, a := range rep.actions {
		if a != "failed" {
			return "it reports more than failures: " + quoteShort(a)
		}
	}
	return origin(rep.returned, r.Hosts)
}

// quoteShort keeps text of strangers from filling a line.
func quoteShort(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "?") + "…"
	}
	return `"` + s + `"`
}
