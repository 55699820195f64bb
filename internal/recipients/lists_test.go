package recipients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func told(t testing.TB, s source, to string) string {
	t.Helper()
	a, err := s.ask(t.Context(), address(t, to))
	if err != nil {
		return "error: " + err.Error()
	}
	if !a.reply.IsZero() {
		return a.is.String() + " " + a.reply.String()
	}
	return a.is.String()
}

const aList = "\ufeff# of the directory\r\n" + `alice@example.com
BOB@Example.COM    OK
SMTP:carol@example.com;Carol
"dave@example.com","Dave, the other"
@all.example.com
sales
team+urgent@example.com	OK
münchen@exämple.de
`

func TestList(t *testing.T) {
	l, err := parseList("list", aList, "+")
	if err != nil {
		t.Fatal(err)
	}
	strict, _ := parseList("list", aList, "")
	tests := []struct {
		to                  string
		want, withoutDetail string // "": as want
	}{
		{"alice@example.com", "known", ""},
		{"ALICE@EXAMPLE.com", "known", ""},
		{"alice+x@example.com", "known", "unknown"},
		{"alice+@example.com", "known", "unknown"},
		{"alice-x@example.com", "unknown", ""},
		{"+alice@example.com", "unknown", ""},
		{"alice@sub.example.com", "unknown", ""},
		{"alice@elsewhere.example", "unknown", ""},
		{"bob@example.com", "known", ""},
		{"carol@example.com", "known", ""},
		{"dave@example.com", "known", ""},
		{"anybody@all.example.com", "known", ""},
		{"anybody@sub.all.example.com", "unknown", ""},
		{"sales@wherever.example", "known", ""},
		{"team@example.com", "unknown", ""},
		{"team+urgent@example.com", "known", ""},
		{"team+other@example.com", "unknown", ""},
		{"MÜNCHEN@exämple.de", "known", ""},
		{"ok@example.com", "unknown", ""},
	}
	for _, tt := range tests {
		if got := told(t, l, tt.to); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.to, got, tt.want)
		}
		if tt.withoutDetail == "" {
			tt.withoutDetail = tt.want
		}
		if got := told(t, strict, tt.to); got != tt.withoutDetail {
			t.Errorf("%s without a delimiter: %s, want %s", tt.to, got, tt.withoutDetail)
		}
	}
}

func TestBadLists(t *testing.T) {
	tests := []struct{ kind, text, want string }{
		{"file", "", "is empty"},
		{"file", "# nobody\n", "is empty"},
		{"file", " alice@example.com\n", "file:1: begins with a blank"},
		{"file", "a@example.com\nal ice@example.com\n", ""},
		{"file", "a@example.com\nal,ice\n@\n", "file:3:"},
		{"file", "a@b@c\n", "file:1:"},
		{"file", "a@example.com\x00\n", "control characters"},
		{"file", "a@example.com\n\xff\xfe\n", "file:2: control characters or broken UTF-8"},
		{"file", strings.Repeat("a", 5000) + "\n", "longer than 4096"},
		{"file", strings.Repeat("a@@b\n", 50), "file:21: and more of this kind"},
		{"virtusertable", "alice@example.com\n", "want a key"},
		{"virtusertable", "alice bob\n", "want user@domain or @domain"},
		{"virtusertable", "a@example.com b\nA@example.com c\n", "virtusertable:2: a@example.com is there twice"},
		{"virtusertable", "a@example.com error:\n", "virtusertable:1:"},
		{"virtusertable", "", "is empty"},
		{"aliases", "  continued\n", "nothing is before it"},
		{"aliases", "no colon\n", "want name"},
		{"aliases", "", "is empty"},
	}
	for _, tt := range tests {
		var err error
		switch tt.kind {
		case "file":
			_, err = parseList("file", tt.text, "+")
		case "virtusertable":
			_, err = parseVirtusers("virtusertable", tt.text)
		case "aliases":
			_, err = parseAliases("aliases", tt.text)
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s %.40q: %v, want %q", tt.kind, tt.text, err, tt.want)
		}
	}
}

// The order of look-ups is sendmail's (op.me 5.1.4.6): whole, ++, +*, without
// detail, and the domain's own in the same order.
func TestVirtusers(t *testing.T) {
	v, err := parseVirtusers("v", `
# comment
alice@example.com           al
team+a@example.com          one
team++@example.com          error:5.2.1:550 Closed
team+*@example.com          two
team@example.com            three
gone@example.com            error:nouser 550 No such user here
left@example.com            error:nouser She left
moved@example.com           error:5.1.6:551 Moved to example.net
busy@example.com            error:4.2.1:450 Later
chain@example.com           gone@example.com
loop@example.com            loop2@example.com
loop2@example.com           loop@example.com
self@example.com            self@example.com
@all.example.com            %1@example.com
++@detail.example.com       error:nouser no details
+*@detail.example.com       error:nouser not this either
@detail.example.com         somebody
@other.example.com          box@elsewhere.example
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ to, want string }{
		{"alice@example.com", "known"},
		{"ALICE+x@Example.com", "known"},
		{"nobody@example.com", "unknown"},
		{"team+a@example.com", "known"},
		{"team+b@example.com", "refused 550 5.2.1 Closed"},
		{"team+@example.com", "known"},
		{"team@example.com", "known"},
		{"gone@example.com", "unknown 550 5.1.1 No such user here"},
		{"left@example.com", "unknown 550 5.1.1 She left"},
		{"moved@example.com", "unknown 551 5.1.6 Moved to example.net"},
		{"busy@example.com", "deferred 450 4.2.1 Later"},
		{"chain@example.com", "unknown 550 5.1.1 No such user here"},
		{"loop@example.com", "known"},
		{"self@example.com", "known"},
		{"alice@all.example.com", "known"},
		{"gone@all.example.com", "unknown 550 5.1.1 No such user here"},
		{"stranger@all.example.com", "known"}, // it leads out of the table
		{"x+y@detail.example.com", "unknown 550 5.1.1 no details"},
		{"x+@detail.example.com", "unknown 550 5.1.1 not this either"},
		{"x@detail.example.com", "known"},
		{"x@other.example.com", "known"},
		{"x@elsewhere.example", "unknown"},
	} {
		if got := told(t, v, tt.to); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.to, got, tt.want)
		}
	}
}

func TestAliases(t *testing.T) {
	l, err := parseAliases("aliases", `# sendmail's
postmaster: root
Root:	alice,
	bob
staff: :include:/etc/mail/staff,
  "|/usr/bin/vacation",
  /var/mail/archive
"quoted": x
owner-list: alice
`)
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"root@any.example": "known", "staff@example.com": "known", "staff+x@example.com": "known", "quoted@example.com": "known",
		"owner-list@example.com": "known", "alice@example.com": "unknown", "bob@example.com": "unknown",
	} {
		if got := told(t, l, to); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
}

// What is in a list is known, in any case, with any detail; what is in none is
// not.
func FuzzList(f *testing.F) {
	f.Add("alice@example.com", "bob")
	f.Add("sales", "x+y")
	f.Add("@example.com", "\"a b\"")
	f.Add("0 @", "0")
	f.Fuzz(func(t *testing.T, entry, local string) {
		l, err := parseList("f", entry+"\nsure@example.com\n", "+")
		if err != nil {
			return
		}
		for _, other := range []string{"sure@example.com", "SURE+x@example.com"} {
			if told(t, l, other) != "known" {
				t.Errorf("%q hides %s", entry, other)
			}
		}
		if a, err := mail.ParseAddress(entry, true); err == nil && a.Domain != "" && !strings.ContainsAny(entry, ",; \t#\"") && !strings.HasPrefix(strings.ToLower(entry), "smtp:") && told(t, l, entry) != "known" {
			t.Errorf("%q is not known", entry)
		}
		if a, err := mail.ParseAddress(local+"@nowhere.invalid", true); err == nil && !strings.ContainsAny(entry, ",; \t\"\n\r") && strings.Contains(entry, "@") {
			if got, _ := l.ask(t.Context(), a); got.is == isKnown && !strings.Contains(strings.ToLower(entry), "nowhere.invalid") {
				t.Errorf("%q knows %v", entry, a)
			}
		}
	})
}

// A large list is read whole, to its last line.
func TestLargeList(t *testing.T) {
	var b strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&b, "user%d@example.com OK\n", i)
	}
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Of = map[string][]string{"example.com": {"file:" + path}}
	c, err := Load(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if got := told(t, c.domains["example.com"][0], "USER299999@example.com"); got != "known" {
		t.Error(got)
	}
}
