// Package blocklist keeps a blocklist of our own: a client that sends viruses,
// spam, or mail to users that don't exist, so often in a time, is put off at
// connect for a while, on all gateways that share the state.
//
// Entries are in the set state.Blocked, with what for; they end by themselves,
// and "gatepost state block" shows and removes them. A client is an IPv4 address,
// or an IPv6 /64.
//
// Never blocked are clients that are no strangers, this host, what a DNS allow
// list has, what the access map has a word for, and the operator's networks.
// Listeners for submission don't ask: who logs in there is somebody else than who
// had his address before him.
//
// # Findings
//
//   - blocked: Value: what for. What it means says policy.blocked.
//
// A store that can't be reached is an error; on_error is continue unless the
// operator says otherwise.
package blocklist
