// Package spamassassin asks spamd about a message.
//
// It finds a score, and the rules that made it. Above max_size only the
// beginning of the message is judged; a finding says so. What spamd says is
// believed only when it is whole and its numbers are numbers; else it is an
// error, and the failure policy decides.
//
// The rules are read from spamd's report. A site that changed the report's
// template, or whose spamd writes it in another language, loses their names,
// never the score.
//
// spamd wants to see from where the message came. In the proxy our Received
// field is there already; from a milter one is put in front, as the MTA adds
// its own only later. X-Envelope-From tells the sender.
package spamassassin
