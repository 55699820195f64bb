package proxy

import (
	"errors"
	"fmt"
	"syscall"

	"gatepost/internal/mail"
)

// Replies of fixed text. What a client sent is never part of one.
func okReply() mail.Reply { return mail.Reply{Code: 250, Detail: "0.0", Text: "OK"} }

func badSequence(text string) mail.Reply { return mail.Reply{Code: 503, Detail: "5.1", Text: text} }

func badSyntax(text string) mail.Reply { return mail.Reply{Code: 501, Detail: "5.2", Text: text} }

func noTransaction() mail.Reply { return badSequence("send MAIL first") }

func noRecipients() mail.Reply {
	return mail.Reply{Code: 554, Detail: "5.1", Text: "no valid recipients"}
}

func tooLarge(maxSize int64) mail.Reply {
	return mail.Reply{Code: 552, Detail: "3.4", Text: fmt.Sprintf("message exceeds the limit of %d bytes", maxSize)}
}

func closing(detail, text string) mail.Reply {
	return mail.Reply{Code: 421, Detail: detail, Text: text}
}

func stops() mail.Reply { return closing("3.2", "the server stops, please try again later") }

// ourFault is the answer to any error on our side: the client shall come again.
func ourFault() mail.Reply {
	return mail.Reply{Code: 451, Detail: "3.0", Text: "local problem, please try again later"}
}

// spoolFault is the answer to an error of the spool, and its name in Stats.
func spoolFault(err error) (mail.Reply, string) {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return mail.Reply{Code: 452, Detail: "3.1", Text: "no room for the message, please try again later"}, causeFull
	}
	return ourFault(), causeSpool
}

// refusalOf is the reply of a verdict that refuses. A code that would not
// refuse is replaced: an action of 4xx or 5xx is never answered 250.
func refusalOf(v mail.Verdict) mail.Reply {
	if class := v.Reply.Code / 100; class == 4 || class == 5 {
		return v.Reply
	}
	if v.Action == mail.TempFail {
		return mail.Reply{Code: 451, Detail: "7.1", Text: "please try again later"}
	}
	return mail.Reply{Code: 550, Detail: "7.1", Text: "refused by policy"}
}
