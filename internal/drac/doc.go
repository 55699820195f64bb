// Package drac lets those who read their mail send mail: it opens a window in
// which an address may relay, on the word of a POP or IMAP server that has just
// seen it log in. It speaks the protocol of rpc.dracd (ONC RPC over UDP, program
// 900101, versions 1 and 2), so that servers built for that need no change, and
// takes the same over a unix socket, for Dovecot's post-login script.
//
// Where the original trusts its database for minutes after an entry ran out, a
// window here ends when it ends; and it opens the relay, nothing else: lists
// that block a client still do.
package drac
