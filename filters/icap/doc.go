// Package icap asks a scanner that speaks ICAP (RFC 3507).
//
// The message goes there as the body of an HTTP response (RESPMOD) or request
// (REQMOD), and after it each decoded part that a mail program could see, for
// most ICAP scanners know files and not mail. A part in plain text that is the
// whole message is not sent twice.
//
// # Findings
//
//   - virus: the scanner names an infection (X-Infection-Found of type 0,
//     X-Virus-ID, X-Violations-Found), or sends another content in place of
//     what it got: then the name is ICAP.Blocked.
//   - suspicious: X-Infection-Found of type 1, a violation of its policy.
//   - not-scanned: type 2, a container that it could not open; more than
//     max_size; a preview that was all that it wanted.
//   - clean: 204, or the same octets back.
//
// Anything else is an error, and the failure policy decides: a status that is
// not known, a reply that is cut or too large, an answer before the scanner had
// everything.
package icap
