// Package access reads sendmail's tables as text, without makemap, and answers
// from them as sendmail's rulesets do: the access map with its walks, the
// classes of relay-domains and local-host-names, and the order in which
// check_relay, check_mail and check_rcpt ask. Postfix's lists stand beside them.
//
// Table is the map and its walks. Engine is the rulesets; a test asks sendmail
// itself the same questions. Whoever is more careful than sendmail takes the
// engine's parts and says so where it does: package rules.
//
// Everything is read once and never changes; any number of goroutines may ask.
// A search that nobody wants traced and that finds nothing costs no memory.
package access
