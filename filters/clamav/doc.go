// Package clamav asks clamd about a message.
//
// A unix socket gets the message as a file descriptor (FILDES), a TCP one as a
// stream (INSTREAM). Only an answer that says OK, whole and alone, is clean;
// what is cut, doubled or unknown is an error, so the failure policy decides.
//
// # Findings
//
//   - virus: infected, by name; also the phishing heuristics.
//   - suspicious: what a site may want to refuse but is no infection: macros
//     (Heuristics.OLE2.ContainsMacros), broken executables, PUA.*, credit card
//     numbers (Heuristics.Structured.*).
//   - not-scanned: larger than max_size, over a limit of clamd
//     (Heuristics.Limits.Exceeded.*), or encrypted (Heuristics.Encrypted.*).
//   - clean.
//
// # What clamd does not say
//
// By default clamd calls OK what it could not look into. These lines of
// clamd.conf make it tell:
//
//	AlertEncrypted yes
//	AlertExceedsMax yes
//
// Without them this package still finds out by itself what it can: messages
// above max_size, which must not be more than clamd's StreamMaxLength,
// MaxFileSize and MaxScanSize, and the encrypted archives that opaque.go knows.
// It can't see that an archive was nested too deep for clamd or held too many
// files.
//
// # A first line for libclamav
//
// libclamav tells mail from other files by its first bytes, so the message is
// given a Received line in front. The "From " line that clamav-milter uses
// makes an mbox of it: then a line "From x Mon Jan 1 00:00:00 2024" in a text
// part ends the message, and no attachment behind it is decoded (seen with
// ClamAV 1.4.6).
package clamav
