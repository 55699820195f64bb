// Package rules turns what is known of a mail into a verdict: who may relay,
// what the access map says of clients, senders and recipients, and what becomes
// of viruses, of what could not be scanned, and of spam by its score.
//
// Load reads all lists once and returns a Set, a generation of the rules: it
// never changes, does no I/O, and any number of sessions may ask it at a time.
// A reload loads another Set; sessions that run keep theirs.
package rules
