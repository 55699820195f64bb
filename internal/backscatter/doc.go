// Package backscatter tells which bounces in a mail queue answer spam.
//
// A bounce of spam goes to an address that the spammer made up or stole. The
// one that must not be deleted is the bounce that tells a person of a letter
// that was lost. So everything here is in favour of keeping: only a failure
// report that this host made itself, about mail from outside whose score is
// known and above the limit, is given up. It does no I/O but reading what it is
// given, and not much of that.
package backscatter
