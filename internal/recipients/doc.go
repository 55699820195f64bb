// Package recipients tells who there is behind the gateway, so that mail for
// nobody is refused while its sender is still there to hear it: a bounce later
// would go to whoever was forged.
//
// Each domain has sources, asked in order: lists in files, sendmail's
// virtusertable and aliases read as lists, a directory (LDAP), the next hop
// itself. A source that can't tell is never taken for one that knows nobody, nor
// for one that knows somebody, unless its on_error says so. What the slow ones
// said is remembered.
//
// Clients that guess names are slowed and sent away. Whoever keeps a list of such
// clients sees the refusals.
package recipients
