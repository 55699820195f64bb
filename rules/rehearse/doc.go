// Package rehearse tells what other rules would have made of mail that was
// judged: each record of the history goes through the rules in use and through
// those that could be, stage by stage as it did in its session.
//
// Both are asked the same questions with the same facts, so that rules that did
// not change make no difference, whatever the record lacks. What the record lacks
// is told beside.
package rehearse
