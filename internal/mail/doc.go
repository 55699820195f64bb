// Package mail holds the words that all other packages share: who connects
// (Session), what is asked (Envelope, Message, Transaction), what was found
// (Finding), what is decided (Verdict, Reply, Edit), and the Handler that an
// MTA consults. It does no I/O, logs nothing, and knows no protocol.
package mail
