// Package rates counts what clients do, in the shared state: connections,
// connections open at a time, messages, recipients and bytes, for a client
// address, its network, the sender, the recipient, and who has logged in.
//
// Trusted clients and this host are never counted. Who has logged in has limits
// of its own (user) in place of those of address, network and sender: many may
// sit behind one address.
//
// ClientRate: and ClientConn: of the access map are limits of an address as in
// sendmail, in a window of a minute; they come before client.connections and
// client.concurrent, and 0 is without a limit.
//
// # Findings
//
//   - rate: a limit is reached. Value: what of (mail.RateConnections and so on),
//     Text: whose and how much. What it means says policy.rates. A connection is
//     judged at connect, a message at MAIL, a recipient at RCPT, bytes at the end
//     of the message.
//
// A store that can't be reached is an error; on_error is continue unless the
// operator says otherwise.
package rates
