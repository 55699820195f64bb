package web

import (
	"fmt"
	"strings"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// What happened, in the words that somebody on the telephone would use.

// outcome says in a sentence what became of a mail.
func outcome(r history.Record) string {
	switch r.Action {
	case mail.Reject.String():
		return "Refused" + at(r.Stage) + because(r.Reason)
	case mail.TempFail.String():
		return "Put off" + at(r.Stage) + ": the sender's server will try again" + because(r.Reason)
	case mail.Quarantine.String():
		return "Held in quarantine" + because(r.Reason)
	case mail.Discard.String():
		return "Accepted and dropped" + because(r.Reason)
	}
	if r.Reason != "" {
		return "Accepted" + because(r.Reason)
	}
	return "Accepted"
}

// actionWord is an action in the one word that searches know, too (is:held).
func actionWord(action string) string {
	switch action {
	case mail.Reject.String():
		return "refused"
	case mail.TempFail.String():
		return "put off"
	case mail.Quarantine.String():
		return "held"
	case mail.Discard.String():
		return "dropped"
	}
	return "accepted"
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ", because: " + reason
}

// at says where it was, if that was not at the end.
func at(stage string) string {
	switch stage {
	case "connect":
		return " when the server connected"
	case "helo":
		return " at its greeting"
	case "mail":
		return " for its sender"
	case "rcpt":
		return " for its recipient"
	}
	return ""
}

// class is the class of a tag for an action or status.
func class(action string) string {
	switch action {
	case mail.Accept.String(), mail.Continue.String():
		return "good"
	case mail.Reject.String(), mail.Discard.String():
		return "bad"
	}
	return "warn"
}

// eventWords says in a sentence what an event is.
func eventWords(e history.Event) string {
	text := func(prefix string) string {
		if e.Text == "" {
			return ""
		}
		return prefix + e.Text
	}
	switch e.What {
	case mail.EventQueued:
		return "Kept for delivery" + text(": ")
	case mail.EventHeld:
		return "Held" + text(": ")
	case mail.EventAttempt:
		return attemptWords(e)
	case mail.EventReleased:
		return "Released" + by(e)
	case mail.EventMoved:
		return "Moved to the lane " + e.Text + by(e)
	case mail.EventNotified:
		return "The sender was told" + text(": ")
	case mail.EventSilent:
		return "The sender was not told" + text(": ")
	case mail.EventRemoved:
		return "No longer kept" + text(": ")
	case mail.EventJudged:
		return "Judged again" + text(": ")
	case mail.EventAsked:
		return "An operator asked" + by(e) + text(": ")
	}
	return strings.TrimSpace(string(e.What) + text(": "))
}

func by(e history.Event) string {
	if e.By == "" {
		return ""
	}
	return " by " + e.By
}

func attemptWords(e history.Event) string {
	to := ""
	if e.Rcpt != "" {
		to = " for " + e.Rcpt
	}
	where, said := "", e.Text
	if e.Remote != "" {
		where = " at " + e.Remote
		said = "it said " + said
	}
	if e.Text == "" {
		said = "there was no answer"
	}
	switch e.Status {
	case mail.Delivered.String():
		return fmt.Sprintf("Delivered%s%s: %s", to, where, said)
	case mail.Failed.String():
		return fmt.Sprintf("Given up%s%s: %s", to, where, said)
	}
	return fmt.Sprintf("Tried%s%s, and will be again: %s", to, where, said)
}
