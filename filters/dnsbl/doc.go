// Package dnsbl asks DNS lists about who sends (RFC 5782): block lists and
// allow lists of client addresses, of the names that a client gives for itself,
// of senders' domains, and of the hosts that a text links to.
//
// # Findings
//
//   - listed: a block list has it. Value: the list's name in the configuration,
//     Text: what and why.
//   - denied: the same, of a list with reject = true.
//   - allowed: an allow list has it; its score is subtracted.
//   - failed: some of the lists could not tell. When none could, that is an error.
//
// Clients that are no strangers are not asked about: the provider's address of
// somebody who logs in is on many a list, and rightly so.
//
// # What does not count
//
// Only answers that the operator names count. 127.255.255.0/24 is how lists say
// that they don't answer (a public resolver asks, or one that asks too much), and
// so is 127.0.0.1; anything outside 127.0.0.0/8 is somebody else's, of a zone that
// was given up. A list that says so, that has its test points wrong (127.0.0.2, or
// "test", must be listed; 127.0.0.1, or "invalid", must not), or that was never
// tested, is not asked.
package dnsbl
