// Package child makes a milter (opendkim, rspamd, a site's own) a filter. It
// plays the MTA for it: one connection for each SMTP session, every stage
// passed on as it comes, the content from the stored message. What the milter
// says becomes a finding; whether it also acts is the operator's choice (Vote).
// Its changes become edits of fields with identity, as Postfix would have made
// them.
//
// A milter whose word shall not act at once (a score or a shadow) is asked for
// the whole session when the message is complete.
package child
