package mail

import (
	"net/netip"
	"time"
)

// Session holds the facts of one SMTP connection, whoever accepted it.
type Session struct {
	ID       string         // of the connection; for the log
	Listener string         // name of the listener, or of the milter entry
	Via      Via            // how the mail reached us
	Client   netip.AddrPort // zero for a connection over a unix socket
	Name     string         // verified name of the client (forward-confirmed); "" when unknown
	Trusted  bool           // the client is in relay.networks
	Helo     string         // as the client gave it, syntax checked
	ESMTP    bool           // EHLO, not HELO
	TLS      *TLS           // nil in clear
	User     string         // authenticated user, "" for none
	AuthMech string         // how: "PLAIN", "SCRAM-SHA-256", … ; "" for not
	PTR      string         // the name that the address claims; not to be trusted
	Resolve  Resolve        // what became of the look-up of Name
	Role     string         // of the listener: "mx", "submission", "submissions", "relay"
	Window   bool           // the client has an open relay window: it read its mail just now
	Pregreet bool           // it talked before the banner
	Proxied  netip.Addr     // the peer that spoke for the client; zero for none
	Again    bool           // its mail was taken before a filter could judge it, and is judged now
	Start    time.Time

	// Macros of the MTA that asks over the milter protocol, kept raw.
	Macros map[string]string
}

// Resolve is what the look-up of a client's name gave, in the words of
// sendmail's ${client_resolve}.
type Resolve string

// The results; "" is not looked up.
const (
	ResolveOK     Resolve = "OK"     // the name leads back to the address
	ResolveFail   Resolve = "FAIL"   // there is no name
	ResolveForged Resolve = "FORGED" // the name leads elsewhere
	ResolveTemp   Resolve = "TEMP"   // nobody could tell now
)

// Via tells the two entries apart.
type Via string

// The entries.
const (
	ViaSMTP   Via = "smtp"   // the proxy accepted it: relay rules are ours to keep
	ViaMilter Via = "milter" // an MTA asks us: it keeps its own
	ViaScan   Via = "scan"   // a file on the command line
)

// TLS is what the log and the rules may know of an encrypted connection.
type TLS struct {
	Version  string // "TLSv1.3"
	Cipher   string
	Subject  string // of a client certificate; "" for none
	Verified bool   // by an issuer that the listener believes
	Relay    bool   // the listener lets it relay: one of client_cert_relay
}
