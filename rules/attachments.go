package rules

import (
	"fmt"
	"iter"
	"strings"

	"gatepost/internal/mail"
)

// AttachmentAction is what is done with a part that a list of the filter
// "attachments" does not want.
type AttachmentAction string

// The values of policy.attachments and of a list's action.
const (
	AttachmentReject     AttachmentAction = "reject"     // refuse in the session
	AttachmentQuarantine AttachmentAction = "quarantine" // accept and hold
	AttachmentStrip      AttachmentAction = "strip"      // deliver a note in its place
	AttachmentRename     AttachmentAction = "rename"     // deliver it under a name that no click opens
	AttachmentTag        AttachmentAction = "tag"        // deliver with X-Gatepost-Attachment
	AttachmentContinue   AttachmentAction = "continue"   // deliver
)

// Validate refuses unknown words.
func (a AttachmentAction) Validate() error {
	return oneOf(a, AttachmentReject, AttachmentQuarantine, AttachmentStrip, AttachmentRename, AttachmentTag, AttachmentContinue)
}

// AttachmentLists are the actions of all lists, by filter and list: see
// AttachmentList.
type AttachmentLists map[string]AttachmentAction

// AttachmentList is the key of a list in AttachmentLists.
func AttachmentList(filter, list string) string { return filter + "/" + list }

// alters is what is to be changed in one copy of a message. Two that are equal
// need one copy.
type alters struct {
	strip, rename string // paths of parts; of strip each with its reason
	note          string // for X-Gatepost-Attachment
	texts         string // which, see texts.go
}

const (
	between = "\x00" // a path and its reason
	behind  = "\x01" // each of several
)

// judge judges for one recipient. A virus decides alone, and what can't be
// judged is not changed.
func (s *Set) judge(tx *mail.Transaction, l limits, e evidence, to mail.Address) outcome {
	l, blocked := s.wishes(tx, l, to)
	o := l.judge(e)
	if e.infected || e.broken != "" {
		return o
	}
	o.marks.alters.texts = s.textsFor(tx, to)
	return s.attached(tx, o, l, to).blockedBy(blocked)
}

// attached is o with what the lists want done for this recipient. What can't be
// taken out, for nobody knows where it is, is held.
func (s *Set) attached(tx *mail.Transaction, o outcome, l limits, to mail.Address) outcome {
	for _, f := range tx.Findings {
		if f.Name != mail.FindingAttachment || !f.Rcpt.IsNull() && f.Rcpt != to {
			continue
		}
		action := l.attachments
		if action == "" {
			action = s.lists[AttachmentList(f.Filter, f.List)]
		}
		o = o.attachment(f, action, l.of)
	}
	return o
}

func (o outcome) attachment(f mail.Finding, action AttachmentAction, of string) outcome {
	change := &o.marks.alters
	reason := fmt.Sprintf("attachment: %s (%s of list %s)%s", plain(f.Text, "without a name"), f.Value, f.List, of)
	switch action {
	case AttachmentContinue:
		return o
	case AttachmentTag:
		if note := fmt.Sprintf("%s (list %s)", f.Value, f.List); !strings.Contains(change.note, note) {
			change.note = joinReasons(change.note, note)
		}
		return o
	case AttachmentStrip:
		if f.Part != "" {
			change.strip += f.Part + between + "it " + why(f) + behind
			return o
		}
	case AttachmentRename:
		if f.Part != "" {
			change.rename += f.Part + behind
			return o
		}
	case AttachmentReject:
		if o.action < mail.TempFail {
			o.action, o.reason, o.kind = mail.Reject, reason, mail.HeldAttachment
			o.reply = mail.Reply{Code: 554, Detail: "7.1", Text: "Message refused: attachment " + plain(f.Text, "without a name")}
		}
		return o
	}
	if o.action <= mail.Quarantine { // whatever else holds it: this is the graver reason
		o.kind = o.kind.Graver(mail.HeldAttachment)
	}
	if o.action < mail.Quarantine {
		o.action, o.reason = mail.Quarantine, reason
	}
	return o
}

// why is the text of a finding without the name of the part: that stands beside
// it.
func why(f mail.Finding) string {
	text := plain(f.Text, "is not accepted")
	if i := strings.LastIndexByte(text, '"'); i >= 0 && i < len(text)-1 {
		text = strings.TrimSpace(text[i+1:])
	}
	return text + " (list " + f.List + ")"
}

// alterations are what the marks of a copy stand for.
func (s *Set) alterations(m marks) []mail.Alteration {
	a := m.alters
	var all []mail.Alteration
	for each := range parts(a.strip) {
		path, why, _ := strings.Cut(each, between)
		all = append(all, mail.StripParts{Paths: []string{path}, Why: why})
	}
	var paths []string
	for path := range parts(a.rename) {
		paths = append(paths, path)
	}
	if len(paths) > 0 {
		all = append(all, mail.RenameParts{Paths: paths})
	}
	if m.tagged && s.subject.Tag != "" {
		all = append(all, mail.TagSubject{Text: s.subject.Tag})
	}
	if a.note != "" && s.subject.Attachments != "" {
		all = append(all, mail.TagSubject{Text: s.subject.Attachments})
	}
	return append(all, s.added(a.texts)...)
}

// parts are the elements of a list that is written as text.
func parts(list string) iter.Seq[string] {
	if list == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(strings.TrimSuffix(list, behind), behind)
}
