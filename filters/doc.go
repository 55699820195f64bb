// Package filters asks all filters about a message and makes one verdict of
// what they say. A Filter reports what it found; a Policy decides what becomes
// of it; the Multiplexer stands between the two: it strips what was forged,
// runs the filters side by side, merges their reports by position, and applies
// the failure policy (failure.go, the only place where an error becomes an
// answer) to those that could not tell.
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
// message gets the same answer whichever filter was the fastest.
package filters
