package attachments

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/filters"
)

// Config of the filter. Without any list it is the standard list, which rejects.
type Config struct {
	// Deny says what is not wanted; whatever is on none of these lists passes.
	Deny []Deny `toml:"deny"`
	// Allow says what is wanted: for recipients with such a list, a part passes
	// when one of their lists has it and no deny list does.
	Allow []Allow `toml:"allow"`
	// Types are media types that allow lists name and this filter does not
	// know, with the names that fit them.
	Types map[string]Names `toml:"types"`
	// Timeout of one check. Default 10s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that could not be taken apart. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
}

// Scope is what all lists have.
type Scope struct {
	// Name of the list, for the log and for who is refused.
	Name string `toml:"name"`
	// Action is what is done with what the list does not want. Default reject.
	Action Action `toml:"action"`
	// Recipients of whom the list is: "user@example.com", "example.com",
	// ".example.com". Default all.
	Recipients []string `toml:"recipients"`
	// NotRecipients are those among them of whom it is not.
	NotRecipients []string `toml:"not_recipients"`
	// TopOnly leaves out what lies in archives.
	TopOnly bool `toml:"top_only"`
}

// Deny is a list in the style of amavis. Lists may name files, "file:/path", one
// entry a line with # comments.
type Deny struct {
	Scope
	// Standard adds Debian's list of amavis: programs of Windows by extension,
	// double extension, CLSID, declared type and content.
	Standard bool `toml:"standard"`
	// Extensions are endings of any name of a part: "exe".
	Extensions []string `toml:"extensions"`
	// DoubleExtensions are those that are bad behind another one: "pdf.dll".
	DoubleExtensions []string `toml:"double_extensions"`
	// Names are regular expressions (RE2), without regard to case.
	Names []string `toml:"names"`
	// Declared are media types that a part says of itself: "application/hta",
	// "video/*".
	Declared []string `toml:"declared"`
	// Detected are media types of the content.
	Detected []string `toml:"detected"`
	// CLSID: names that end in one.
	CLSID bool `toml:"clsid"`
	// Programs: content that a system or a shell would run, of whatever name.
	Programs bool `toml:"programs"`
	// Macros: Office documents that may run code.
	Macros bool `toml:"macros"`
	// Encrypted: what nobody can look into.
	Encrypted bool `toml:"encrypted"`
	// Ignore are names, as regular expressions, that are not looked at here.
	Ignore []string `toml:"ignore"`
}

// Allow is a list in the style of Protector: the content has to be of one of the
// types, and all names and the declared type have to agree with that.
type Allow struct {
	Scope
	// Types are media types, "image/*", or groups: text, html, images, audio, video,
	// pdf, office, archives, calendar, messages.
	Types []string `toml:"types"`
	// Macros lets Office documents with macros pass.
	Macros bool `toml:"macros"`
	// Encrypted lets pass what nobody can look into.
	Encrypted bool `toml:"encrypted"`
	// AnyName leaves out the comparison with names and the declared type.
	AnyName bool `toml:"any_name"`
}

// Names are what a part of a media type may be called.
type Names struct {
	Extensions []string `toml:"extensions"`
	Declared   []string `toml:"declared"` // besides the type itself
}

// Action is what the rules are to do with a part.
type Action string

// The actions.
const (
	Reject     Action = "reject"     // refuse the message in the session
	Quarantine Action = "quarantine" // accept and hold it
	Strip      Action = "strip"      // deliver it with a note in the place of the part
	Rename     Action = "rename"     // deliver it with the part under a name that no click opens
	Tag        Action = "tag"        // deliver it with a note in the header
	Continue   Action = "continue"   // only the finding
)

var actions = []Action{Reject, Quarantine, Strip, Rename, Tag, Continue}

// Validate refuses unknown words.
func (a Action) Validate() error {
	if a == "" || slices.Contains(actions, a) {
		return nil
	}
	return fmt.Errorf("action: %q is not one of reject, quarantine, strip, rename, tag, continue", string(a))
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{Timeout: 10 * time.Second, OnError: filters.TempFail}
}

// StandardName is the list of a Config without lists.
const StandardName = "standard"

// lists are those of c, or the standard list where there are none.
func (c Config) lists() ([]Deny, []Allow) {
	if len(c.Deny)+len(c.Allow) == 0 {
		return []Deny{{Scope: Scope{Name: StandardName}, Standard: true}}, nil
	}
	return c.Deny, c.Allow
}

// Actions are the lists with what each wants done.
func (c Config) Actions() map[string]string {
	all := make(map[string]string)
	note := func(s Scope) {
		if s.Action == "" {
			s.Action = Reject
		}
		all[s.Name] = string(s.Action)
	}
	deny, allow := c.lists()
	for _, l := range deny {
		note(l.Scope)
	}
	for _, l := range allow {
		note(l.Scope)
	}
	return all
}

// Changes reports whether a list may change a message.
func (c Config) Changes() bool {
	for _, a := range c.Actions() {
		if a == string(Strip) || a == string(Rename) {
			return true
		}
	}
	return false
}

func (c Config) check() error {
	var errs []error
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout: %v; want more than 0, and up to 1m", c.Timeout))
	}
	return errors.Join(append(errs, c.OnError.Validate())...)
}

// standard is Debian's $banned_filename_re of amavisd-new 2.13. Content is
// named as those do who detect it.
func standard(d Deny) Deny {
	if !d.Standard {
		return d
	}
	windows := []string{"exe", "vbs", "pif", "scr", "bat", "cmd", "com", "cpl"}
	d.Extensions = append(slices.Clone(d.Extensions), windows...)
	d.DoubleExtensions = append(append(slices.Clone(d.DoubleExtensions), windows...), "dll")
	d.Declared = append(slices.Clone(d.Declared), "application/x-msdownload", "application/x-msdos-program", "application/hta")
	d.Detected = append(slices.Clone(d.Detected), "application/vnd.microsoft.portable-executable", "application/x-msdownload", "application/x-dosexec")
	d.CLSID = true
	return d
}
