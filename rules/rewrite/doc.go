// Package rewrite changes addresses on their way through: those of senders on
// the way out (masquerading, sendmail's genericstable), those of recipients on
// the way in (virtusertable, aliases). All of it is off unless it is configured:
// it belongs to the delivery tier, and a changed header breaks signatures that
// were made before.
//
// Tables are sendmail's text files, read as makemap reads them.
package rewrite
