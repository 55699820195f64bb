// Package checkrules reads obtuse smtpd's smtpd_check_rules and applies it: a
// list of rules that each recipient is held against, of which the first that
// fits decides.
//
// It differs from the original where that would open a door. Every line is
// checked when the file is read, and a file with an error is not taken: the
// original lets all mail pass that reaches a line it can't read. "allow" ends
// the list and no more: whom we relay for is decided elsewhere. Names of clients
// count when they lead back to the address. Nobody is asked for RFC 931 idents,
// so that a rule that wants one never fits. An IPv6 address stands in brackets,
// since a colon ends a field: [2001:db8::/32].
package checkrules
