// Package dns finds the names of clients: by reverse DNS, and only such names
// as lead back to the client's address. Anyone may write any name into the
// reverse zone of an address of his own.
package dns
