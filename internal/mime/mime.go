// Package mime takes a message apart as every common mail program would.
//
// Mail programs disagree about broken MIME, and who wants to get something past
// a filter uses that. So wherever a message can be read in more than one way all
// readings are followed, and that they differ is told: see Reasons. What a limit
// or a lack of understanding kept from us is told as well, and is never taken
// for clean.
//
// Nothing large is held in memory: a part is a range of the body and a decoder.
package mime

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"gatepost/internal/archive"
	"gatepost/internal/mail"
)

// Config is the limits of one message. What lies beyond them is not looked at,
// and that is told.
type Config struct {
	// Depth is how deep parts may lie in each other. Default 30.
	Depth int `toml:"depth"`
	// Parts is how many there may be, all readings and the files in archives
	// counted. Default 1000.
	Parts int `toml:"parts"`
	// Decoded is how much is decoded of all parts together. Default 400MB.
	Decoded int64 `toml:"decoded,size"`
	// Text is how much is kept of what there is to read. Default 64KB.
	Text int64 `toml:"text,size"`
	// Time is the longest that it may take. Default 20s.
	Time time.Duration `toml:"time"`

	// Limits of archives and documents, all in one message together.
	archive.Limits
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{Depth: 30, Parts: 1000, Decoded: 400_000_000, Text: 64_000, Time: 20 * time.Second, Limits: archive.DefaultLimits()}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Depth < 0 || c.Depth > 100 {
		errs = append(errs, errors.New("depth: is not between 1 and 100"))
	}
	if c.Parts < 0 || c.Parts > 100_000 {
		errs = append(errs, errors.New("parts: is not between 1 and 100000"))
	}
	if c.Decoded < 0 {
		errs = append(errs, errors.New("decoded: is negative"))
	}
	if c.Text < 0 || c.Text > 16<<20 {
		errs = append(errs, errors.New("text: is not between 0 and 16MB"))
	}
	if c.Time < 0 {
		errs = append(errs, errors.New("time: is negative; write a time such as 20s"))
	}
	if c.Limits != (archive.Limits{}) {
		errs = append(errs, c.Limits.Validate())
	}
	return errors.Join(errs...)
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.Depth, c.Parts = cmp.Or(c.Depth, d.Depth), cmp.Or(c.Parts, d.Parts)
	c.Decoded, c.Text, c.Time = cmp.Or(c.Decoded, d.Decoded), cmp.Or(c.Text, d.Text), cmp.Or(c.Time, d.Time)
	c.Limits = cmp.Or(c.Limits, d.Limits)
	return c
}

// Inspect takes m apart. It never fails: what it could not see is in the result.
func Inspect(ctx context.Context, m *mail.Message, c Config) *mail.Inside {
	return Walk(ctx, m, c, nil)
}

// Visit is shown the decoded content of one part, each content once. Its SHA256
// and Size are known, but of files in archives (Depth > 0), whose content can be
// read only in passing. It need not read to the end; an error ends the walk.
type Visit func(part mail.Part, content io.Reader) error

// Walk takes m apart as Inspect does and shows what it finds on its way. That
// the walk ended early, by an error of visit or of ctx, is in Unseen.
func Walk(ctx context.Context, m *mail.Message, c Config, visit Visit) *mail.Inside {
	w := newWalker(ctx, m, c, visit)
	defer w.cancel()
	return w.walk()
}

// Node is a part as most programs read it, multiparts and messages included,
// with the places of its bytes in the body of the message.
type Node struct {
	Path   string // as in mail.Part; "" of a multipart at the top
	Parent int    // index of the node around it; -1 of the top
	Type   string // media type in lower case
	// Encoding is the transfer encoding in lower case, "" where there is none.
	Encoding string
	Charset  string
	Boundary string // of a multipart
	Names    []string
	Inline   bool // is not declared an attachment
	// Protected as in mail.Part.
	Protected bool

	// DelimiterAt is where the line with the boundary in front of the part
	// begins, -1 of what is not in a multipart.
	DelimiterAt int64
	// HeaderAt and HeaderLength are the header with the empty line behind it.
	// Of the top they are 0: its header is that of the message.
	HeaderAt, HeaderLength int64
	// At and Length are the encoded content.
	At, Length int64
}

// Tree returns the parts of m as most programs read them, each after the one
// around it; of a part that lies in an encoded one there is no node. Where
// Inside is ambiguous other programs read m in another way.
func Tree(ctx context.Context, m *mail.Message, c Config) ([]Node, *mail.Inside) {
	w := newWalker(ctx, m, c, nil)
	defer w.cancel()
	inside := w.walk()
	return w.nodes, inside
}
