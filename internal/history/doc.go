// Package history keeps what was decided about mail, with all that it was
// decided on, and what became of the mail after that: in one SQLite file,
// searchable, bounded by age and size.
//
// Nobody who handles mail ever waits for it. What is to be written goes into a
// bounded line that one goroutine empties; where the line is full, the newest is
// left out, counted and logged. A disk that is full, a file that is locked or
// damaged cost records and nothing else.
package history
