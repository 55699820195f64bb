package policy

// Env is the vocabulary: what a condition may ask. The page about it is made
// of these tags (Vocabulary); at says from which stage on a name is known,
// without it from the first on.
type Env struct {
	Client   Client  `expr:"client" doc:"who brings the mail"`
	TLS      TLS     `expr:"tls" doc:"the encryption of the session"`
	User     string  `expr:"user" at:"mail" doc:"who has logged in, \"\" for nobody"`
	Listener string  `expr:"listener" doc:"the name of the listener or milter entry"`
	Role     string  `expr:"role" doc:"of the listener: \"mx\", \"submission\", \"submissions\", \"relay\"; \"\" of a milter entry"`
	Via      string  `expr:"via" doc:"\"smtp\", \"milter\" or \"scan\""`
	Time     Clock   `expr:"time" doc:"when the mail came"`
	Score    float64 `expr:"score" doc:"the spam score so far, with that of rules before"`

	Sender Mailbox `expr:"sender" at:"mail" doc:"the sender of the envelope"`

	Rcpt       Mailbox   `expr:"rcpt" at:"rcpt" doc:"the recipient that is judged"`
	Recipients []Mailbox `expr:"recipients" at:"message" doc:"all recipients of the message"`

	Size    int    `expr:"size" at:"message" doc:"of the message, in bytes"`
	Subject string `expr:"subject" at:"message" doc:"the subject, decoded"`
	From    Author `expr:"from" at:"message" doc:"who the message says that it is from"`

	Text      string   `expr:"text" at:"message" inside:"yes" doc:"what there is to read, decoded, HTML without its tags: the beginning of it"`
	URLs      []*URL   `expr:"urls" at:"message" inside:"yes" doc:"the links in the text, each once"`
	Parts     []*Part  `expr:"parts" at:"message" inside:"yes" doc:"the parts of the message, with what is in archives"`
	Ambiguous []string `expr:"ambiguous" at:"message" inside:"yes" doc:"where mail programs would see different things"`
	Unseen    []string `expr:"unseen" at:"message" inside:"yes" doc:"what could not be looked into"`

	Virus string `expr:"virus" at:"message" doc:"the name of the first virus that was found, \"\" for none"`
	SPF   string `expr:"spf" at:"message" doc:"the result word of SPF, \"\" where nobody asked"`
	DKIM  string `expr:"dkim" at:"message" doc:"\"pass\" where one signature is good, else the word of the first; \"\" where nobody asked"`
	DMARC string `expr:"dmarc" at:"message" doc:"the result word of DMARC, \"\" where nobody asked"`
	ARC   string `expr:"arc" at:"message" doc:"the result word of ARC, \"\" where nobody asked"`

	Header   func(string) string    `expr:"header" at:"message" doc:"the value of the first field of that name, decoded; \"\" for none"`
	Headers  func(string) []string  `expr:"headers" at:"message" doc:"the values of all fields of that name, as they came"`
	Found    func(string) bool      `expr:"found" doc:"whether a filter found something of that name"`
	Value    func(string) string    `expr:"value" doc:"the value of the first finding of that name, \"\" for none"`
	Findings func(string) []Finding `expr:"findings" doc:"what filters found of that name"`
	Lower    func(string) string    `expr:"lower" doc:"a text in lower case"`

	Match  func(any, any) bool `expr:"_matches"`
	Listed func(any, any) bool `expr:"_listed"`
	Step   func() bool         `expr:"_step"`
}

// Client is the client of a session.
type Client struct {
	IP      string `expr:"ip" doc:"its address, \"\" over a unix socket"`
	Name    string `expr:"name" doc:"its verified name, \"\" for none"`
	PTR     string `expr:"ptr" doc:"the name that its address claims, not to be trusted"`
	Helo    string `expr:"helo" at:"mail" doc:"what it called itself"`
	Trusted bool   `expr:"trusted" doc:"it is in relay.networks"`
	Ours    bool   `expr:"ours" doc:"it is trusted, has logged in, or has an open relay window"`
	Resolve string `expr:"resolve" doc:"what became of the look-up of its name: \"OK\", \"FAIL\", \"FORGED\", \"TEMP\""`
}

// TLS is the encryption of a session.
type TLS struct {
	On       bool   `expr:"on" at:"mail" doc:"the session is encrypted"`
	Version  string `expr:"version" at:"mail" doc:"\"TLSv1.3\""`
	Cipher   string `expr:"cipher" at:"mail" doc:"the name of the cipher suite"`
	Subject  string `expr:"subject" at:"mail" doc:"of the client's certificate"`
	Verified bool   `expr:"verified" at:"mail" doc:"the client's certificate is of an issuer that the listener believes"`
}

// Clock is a moment in the gateway's own time zone.
type Clock struct {
	Hour    int    `expr:"hour" doc:"0 to 23"`
	Minute  int    `expr:"minute" doc:"0 to 59"`
	Weekday string `expr:"weekday" doc:"\"mon\" to \"sun\""`
	Date    string `expr:"date" doc:"\"2026-12-31\""`
}

// Mailbox is an address of the envelope.
type Mailbox struct {
	Address string `expr:"address" doc:"local@domain in lower case, \"\" for the null sender"`
	Local   string `expr:"local" doc:"what stands before the @, in lower case"`
	Domain  string `expr:"domain" doc:"what stands behind it, as in DNS"`
}

// Author is what From says.
type Author struct {
	Addresses []string `expr:"addresses" doc:"all addresses in it, in lower case"`
	Domains   []string `expr:"domains" doc:"their domains, as in DNS"`
	Name      string   `expr:"name" doc:"the name that is shown, decoded"`
}

// Part is a part of a message, or a file in an archive.
type Part struct {
	Path      string   `expr:"path" doc:"its place: \"1.2\", \"1.2/invoice.zip/a.exe\""`
	Name      string   `expr:"name" doc:"the name that most programs show, in lower case"`
	Names     []string `expr:"names" doc:"all names that it may be shown under, in lower case"`
	Ext       string   `expr:"ext" doc:"what stands behind the last dot of name: \"exe\""`
	Exts      []string `expr:"exts" doc:"the same of all names"`
	Type      string   `expr:"type" doc:"media type of the content, or the declared one where that is not known"`
	Declared  string   `expr:"declared" doc:"media type that is declared"`
	Size      int      `expr:"size" doc:"decoded, in bytes"`
	SHA256    string   `expr:"sha256" doc:"in hex; \"\" for what was not read to its end"`
	Archive   string   `expr:"archive" doc:"the kind of archive that it is: \"zip\"; \"\" for none"`
	Depth     int      `expr:"depth" doc:"how many archives are around it"`
	Inline    bool     `expr:"inline" doc:"it is not shown as an attachment"`
	Encrypted bool     `expr:"encrypted" doc:"its content, or its list of files, can't be read"`
	Macros    bool     `expr:"macros" doc:"a document that may run code"`
	Program   bool     `expr:"program" doc:"a program or a script"`
	Protected bool     `expr:"protected" doc:"signed or encrypted, so that it can't be changed without notice"`
}

// URL is a link.
type URL struct {
	Host string `expr:"host" doc:"its host, as in DNS"`
	Text string `expr:"text" doc:"as it is written"`
}

// Finding is what a filter found.
type Finding struct {
	Filter string  `expr:"filter" doc:"the name of the filter"`
	Name   string  `expr:"name" doc:"what kind of fact"`
	Value  string  `expr:"value" doc:"the fact"`
	Score  float64 `expr:"score" doc:"what it adds to the score"`
	Text   string  `expr:"text" doc:"why, where, how much"`
	Part   string  `expr:"part" doc:"the path of the part that it is about"`
	List   string  `expr:"list" doc:"the operator's list that says so"`
}
