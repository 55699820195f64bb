// Package greylist puts off what strangers send for the first time: a mail server
// comes again, most of what sends spam does not.
//
// Two forms: a delivery is known by its triple (network of the client, sender,
// recipient), or by the network alone. Once enough triples of a network came
// again, the whole network is known. Who is known is kept in the shared state, so
// it does not matter which gateway was asked.
//
// Never greylisted are clients that are no strangers, this host, what a DNS allow
// list has (a filter dnsbl that stands anywhere), mail that is judged once more,
// and the operator's exceptions.
//
// It hears of no recipient that the rules refuse, so nobody fills the state with
// addresses that don't exist.
//
// # Findings
//
//   - greylisted: not yet. Value: how long until it may come again. What it means
//     says policy.greylist.
//   - returned: what was put off came again.
//
// A store that can't be reached, and whose stand-in does not know the delivery, is
// an error; on_error is continue unless the
// operator says otherwise: no mail waits for it.
package greylist
