// Package policy reads the rule files of a site: TOML with conditions in
// expr-lang over a documented vocabulary (Vocabulary), lists, and cases that
// test them.
//
// Load reads all files at once and returns a Set, which never changes, or every
// mistake in them, each with its place. Any number of messages may be judged
// with a Set at a time. Judging does no I/O and is bounded: each message has a
// budget of work (see Budget), and a rule that can't be evaluated within it is
// reported as failed, never as one that did not match.
//
// What is not read here: who asks for which part of a Result to be done is in
// the packages above.
package policy
