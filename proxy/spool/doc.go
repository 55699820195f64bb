// Package spool keeps accepted messages on disk, and how far each has come.
//
// It is a log with group commit: whoever commits first writes for all that wait
// and makes them durable with one fdatasync. What a client was answered 250 for
// is there after any crash.
//
// # On disk
//
//	lock               flock: one process at a time
//	format             "gatepost spool 1"
//	content/N.log      segments of messages; one record for each Commit
//	content/N.spare    a segment that is done with, to be written again: blocks
//	                   that were written before cost half the time to sync
//	progress/N.log     segments of what became of them; the last record counts
//	large/ID           content above Options.Large; a record refers to it. When
//	                   its message is gone, the file may hold another one, and
//	                   keeps its name
//	corrupt/           what could not be read, and people should look at
//
// A segment begins with a block that holds its number and a random salt. Every
// record begins with that salt, so what is left of an earlier life of the file,
// or what looks like a record inside somebody's mail, is never taken for one.
// The content log writes each batch to blocks of its own: a torn write can't
// hurt what was durable before.
//
// Content and progress have a writer each and share nothing but IDs, so that
// accepting and forwarding can become two processes without a new format.
//
// # Locks
//
// In this order: Spool.cleaning, journal.mu of progress, that of content,
// Spool.mu; those of committer, shelf and syncer come last. Spool.mu is never
// held while the disk is asked for anything.
package spool
