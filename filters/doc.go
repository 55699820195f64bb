// Package filters asks all filters about a message and makes one verdict of
// what they say. A Filter reports what it found; a Policy decides what becomes
// of it; the Multiplexer stands between the two: it strips what was forged,
// runs the filters side by side, merges their reports by position, and applies
// the failure policy (failure.go, the only place where an error becomes an
// answer) to those that could not tell.
//
// A filter with state per SMTP session (a SessionFilter, such as a child milter)
// is told of every stage as an MTA would tell it: not of what the policy
// refuses, at RCPT one after the other, and nothing more of a message once a
// vote ended it. What failed in a message fails at its further stages, too, and
// begins anew with the next. A Vote is the one way in which a filter decides;
// the operator gives it. A shadow only leaves a trace.
//
// # Why the verdict does not depend on timing
//
// Filters that can't modify the message run in parallel, so their reports
// arrive in any order. They are kept by the position of their step, and the
// policy always sees them in that order. Judging stops before all have answered
// only when the policy says that no further finding can change the verdict or
// its text, and when that verdict does not let the message through. A failure
// then changes nothing either, whether it came before or after that moment:
// what the filter would have found could not have changed the verdict. So a
// message gets the same answer whichever filter was the fastest. Votes follow
// the same rule: where the policy is certain they don't count, elsewhere all
// neighbours are waited for, and of equal votes the first by position stands.
package filters
