// Package maillog prints the log in Postfix's way, or as JSON: one event is
// one line, whatever strangers wrote into its values.
//
//	2026-11-21T10:00:00.123Z gatepost[123]: 0P…: message: client=h[192.0.2.1], from=<a@example.com>, size=322
//
// The attribute "id" stands in front, as Postfix's queue ID; lines that have a
// "client" and no id are marked NOQUEUE. Addresses stand in angle brackets,
// durations are seconds. Values that hold blanks, commas, quotes or anything
// unprintable are quoted as Go quotes strings.
package maillog
