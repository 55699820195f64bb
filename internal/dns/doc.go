// Package dns asks the DNS: for where mail goes (Client), with a cache, bounds,
// and an honest answer to whether DNSSEC vouches for it; and for the names of
// clients (ClientNames): by reverse DNS, and only such names as lead back to the
// client's address. Anyone may write any name into the reverse zone of an address
// of his own.
package dns
