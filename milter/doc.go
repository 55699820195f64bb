// Package milter speaks the milter protocol, versions 2 to 6. Server lets an
// MTA (sendmail, Postfix) consult a mail.Handler: the MTA keeps its connections
// and its queue, and asks us what to do at every stage.
//
// What a stage means is libmilter's documentation and engine.c; what each MTA
// makes of an answer was read in sendmail's milter.c and Postfix's milter8.c and
// is pinned by tests against both.
package milter
