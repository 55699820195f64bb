package history

import (
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// Record is one decision, with what it rested on.
type Record struct {
	ID         string    `json:"id"` // of the transaction; what ends before MAIL has one of its own
	Time       time.Time `json:"time"`
	Stage      string    `json:"stage"`                // at which it was decided: "connect" … "message"
	Generation string    `json:"generation,omitempty"` // of filters and rules
	Again      bool      `json:"again,omitempty"`      // judged once more, after a filter came back

	Session    Session     `json:"session"`
	Sender     Path        `json:"sender"`
	Recipients []Recipient `json:"recipients,omitempty"`
	Omitted    int         `json:"omitted,omitempty"` // recipients that there was no room for

	From      string `json:"from,omitempty"` // decoded, as are the next two
	To        string `json:"to,omitempty"`
	Subject   string `json:"subject,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	Header    []byte `json:"header,omitempty"`     // as it was judged, byte for byte
	HeaderCut bool   `json:"header_cut,omitempty"` // Header is only its beginning
	Size      int64  `json:"size,omitempty"`

	Inside   *Inside   `json:"inside,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	Asked    []Asked   `json:"asked,omitempty"`
	Rules    []Rule    `json:"rules,omitempty"`
	Edits    []string  `json:"edits,omitempty"` // in words

	Action string        `json:"action"` // what the client was told; for a part of the recipients Recipients has more
	Reply  string        `json:"reply,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Score  float64       `json:"score,omitempty"`
	Took   time.Duration `json:"took,omitempty"` // since MAIL, in nanoseconds
}

// Session is what was known of the connection.
type Session struct {
	ID       string            `json:"id,omitempty"`
	Listener string            `json:"listener,omitempty"`
	Via      string            `json:"via,omitempty"`
	Client   netip.AddrPort    `json:"client,omitzero"`
	Name     string            `json:"name,omitempty"`
	PTR      string            `json:"ptr,omitempty"`
	Resolve  string            `json:"resolve,omitempty"`
	Trusted  bool              `json:"trusted,omitempty"`
	Helo     string            `json:"helo,omitempty"`
	ESMTP    bool              `json:"esmtp,omitempty"`
	TLS      *TLS              `json:"tls,omitempty"`
	User     string            `json:"user,omitempty"`
	AuthMech string            `json:"auth_mech,omitempty"`
	Role     string            `json:"role,omitempty"`
	Window   bool              `json:"window,omitempty"`
	Pregreet bool              `json:"pregreet,omitempty"`
	Proxied  netip.Addr        `json:"proxied,omitzero"`
	Start    time.Time         `json:"start,omitzero"`
	Macros   map[string]string `json:"macros,omitempty"`
}

// TLS is mail.TLS.
type TLS struct {
	Version  string `json:"version"`
	Cipher   string `json:"cipher,omitempty"`
	Subject  string `json:"subject,omitempty"`
	Verified bool   `json:"verified,omitempty"`
	Relay    bool   `json:"relay,omitempty"`
}

// Path is an address with its ESMTP arguments.
type Path struct {
	Address string   `json:"address"`
	Args    []string `json:"args,omitempty"`
}

// Recipient is one of the envelope, and what was decided for it.
type Recipient struct {
	Path
	Stage  string   `json:"stage,omitempty"` // where that was not at the end
	Action string   `json:"action,omitempty"`
	Reply  string   `json:"reply,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Edits  []string `json:"edits,omitempty"` // where they are others than Record.Edits
}

// Inside is mail.Inside.
type Inside struct {
	Parts     []Part        `json:"parts,omitempty"`
	Ambiguous []string      `json:"ambiguous,omitempty"`
	Unseen    []string      `json:"unseen,omitempty"`
	Text      string        `json:"text,omitempty"` // where the configuration wants it
	URLs      []URL         `json:"urls,omitempty"`
	Took      time.Duration `json:"took,omitempty"`
	Omitted   int           `json:"omitted,omitempty"` // parts and URLs that there was no room for
}

// Part is mail.Part.
type Part struct {
	Path      string   `json:"path"`
	Names     []string `json:"names,omitempty"`
	Declared  string   `json:"declared,omitempty"`
	Detected  string   `json:"detected,omitempty"`
	Inline    bool     `json:"inline,omitempty"`
	Size      int64    `json:"size"`
	SHA256    string   `json:"sha256,omitempty"`
	Archive   string   `json:"archive,omitempty"`
	Depth     int      `json:"depth,omitempty"`
	Encrypted bool     `json:"encrypted,omitempty"`
	Macros    bool     `json:"macros,omitempty"`
	Program   bool     `json:"program,omitempty"`
	Protected bool     `json:"protected,omitempty"`
	At        int64    `json:"at,omitempty"`
	Length    int64    `json:"length,omitempty"`
}

// URL is mail.URL.
type URL struct {
	Host string `json:"host"`
	Text string `json:"text"`
}

// Finding is mail.Finding.
type Finding struct {
	Filter string  `json:"filter"`
	Name   string  `json:"name"`
	Value  string  `json:"value,omitempty"`
	Score  float64 `json:"score,omitempty"`
	Text   string  `json:"text,omitempty"`
	Rcpt   string  `json:"rcpt,omitempty"`
}

// Asked is mail.Asked; Start is counted from the beginning of the transaction.
type Asked struct {
	Filter string        `json:"filter"`
	Stage  string        `json:"stage"`
	Result string        `json:"result"`
	Start  time.Duration `json:"start"`
	Took   time.Duration `json:"took"`
	Shadow bool          `json:"shadow,omitempty"`
}

// Rule is mail.RuleHit.
type Rule struct {
	Rule    string `json:"rule"`
	Where   string `json:"where,omitempty"`
	Did     string `json:"did,omitempty"`
	Observe bool   `json:"observe,omitempty"`
	Rcpt    string `json:"rcpt,omitempty"`
}

// Event is mail.Event.
type Event struct {
	Time   time.Time      `json:"time"`
	ID     string         `json:"id"`
	What   mail.EventKind `json:"what"`
	Rcpt   string         `json:"rcpt,omitempty"`
	Status string         `json:"status,omitempty"`
	Remote string         `json:"remote,omitempty"`
	Text   string         `json:"text,omitempty"`
	By     string         `json:"by,omitempty"`
}

// Life is all that is known of a message.
type Life struct {
	Records []Record `json:"records"` // the oldest first; more than one where it was judged again
	Events  []Event  `json:"events,omitempty"`
}
