// Package testkit starts the real servers that the tests and the try-out run
// against (clamd, spamd, Postfix, the gateway's own binary), and holds the two
// ends of SMTP that a test wants to have under control: a client that sends
// what it is told, byte for byte, and a next hop that keeps a ledger.
//
// Every server lives in a directory of its own, listens on loopback on a free
// port, is ready when it speaks its protocol, and is stopped by its process ID.
// Nothing here imports the product.
package testkit
