// Package proxy accepts mail over SMTP: it speaks with the client, asks a
// mail.Handler at every stage, commits what is accepted to the spool, and only
// then answers 250. It never delivers.
//
// The loop is strict because others read the same bytes after us. A line ends
// in CRLF, a message in CRLF.CRLF, and nothing that could be read in two ways
// goes through. After an error inside a message the rest of it is read and
// dropped, or the connection ends: message text is never taken for commands.
//
// 250 means that the spool holds the message durably (or that it was discarded
// by policy). Whatever goes wrong on our side is a 4xx, in fixed words.
package proxy
