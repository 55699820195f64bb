package attachments

import (
	"context"
	"slices"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
)

// file is a part as internal/mime reports an attached file.
func file(name, declared, detected string) mail.Part {
	p := mail.Part{Path: "2", Declared: declared, Detected: detected, Size: 1000, At: 200, Length: 1400}
	if name != "" {
		p.Names = []string{name}
	}
	p.Program = strings.Contains(detected, "executable") || strings.Contains(detected, "shellscript")
	if strings.HasPrefix(detected, "application/zip") {
		p.Archive = "zip"
	}
	return p
}

// in puts a part into an archive.
func in(p mail.Part) []mail.Part {
	around := file("papers.zip", "application/zip", "application/zip")
	p.Depth, p.At, p.Length = 1, 0, 0
	p.Path = "2/papers.zip/" + p.Names[0]
	return []mail.Part{around, p}
}

const (
	exe  = "application/vnd.microsoft.portable-executable"
	docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
)

func load1(t *testing.T, cfg Config) *Filter {
	t.Helper()
	d := DefaultConfig()
	cfg.Timeout, cfg.OnError = d.Timeout, d.OnError
	f, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func transaction(inside *mail.Inside, to ...string) *mail.Transaction {
	tx := &mail.Transaction{Stage: mail.StageMessage, Inside: inside}
	for _, r := range to {
		a, err := mail.ParseAddress(r, false)
		if err != nil {
			panic(err)
		}
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: a})
	}
	return tx
}

// classes are the findings as "class part", or "class part recipient".
func classes(t *testing.T, f *Filter, tx *mail.Transaction) []string {
	t.Helper()
	r, err := f.Check(context.Background(), tx)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, x := range r.Findings {
		if x.Name != mail.FindingAttachment || x.List == "" {
			t.Errorf("finding %+v", x)
		}
		found = append(found, strings.TrimSpace(x.Value+" "+x.Part+" "+x.Rcpt.String()))
	}
	return found
}

// The vectors of amavisd-new's default list.
func TestStandardList(t *testing.T) {
	f := load1(t, Config{})
	tests := []struct {
		name  string
		parts []mail.Part
		want  string
	}{
		{"blanks before .scr", []mail.Part{file("photo.jpg            .scr", "image/jpeg", "image/jpeg")}, "double-extension 2"},
		{"in a zip", in(file("your_details.scr", "", "")), "banned-extension 2/papers.zip/your_details.scr"},
		{"declared as music", []mail.Part{file("message.scr", "audio/x-wav", "")}, "banned-extension 2"},
		{"a report", []mail.Part{file("report.pdf", "application/pdf", "application/pdf")}, ""},
		{"a tarball", []mail.Part{file("a.tar.gz", "application/gzip", "application/gzip")}, ""},
		{"dll alone", []mail.Part{file("a.dll", "", "")}, ""},
		{"dll behind another", []mail.Part{file("a.txt.dll", "", "")}, "double-extension 2"},
		{"declared hta", []mail.Part{file("a.txt", "application/hta", "text/plain")}, "banned-type 2"},
		{"declared with parameters", []mail.Part{file("a.txt", "Application/X-MSDownload; x=y", "")}, "banned-type 2"},
		{"PE named txt", []mail.Part{file("a.txt", "text/plain", exe)}, "banned-content 2"},
		{"PE without a name", []mail.Part{file("", "image/png", exe)}, "banned-content 2"},
		{"class ID", []mail.Part{file("a.txt.{00020420-0000-0000-C000-000000000046}", "", "")}, "clsid 2"},
		{"class ID without its end", []mail.Part{file("a.{00020420-0000-0000-C000-000000000046", "", "")}, "clsid 2"},
		{"braces", []mail.Part{file("a{00020420}.txt", "", "")}, ""},
		{"M6 capitals", []mail.Part{file("A.EXE", "", "")}, "banned-extension 2"},
		{"M6 dot behind", []mail.Part{file("a.exe.", "", "")}, "banned-extension 2"},
		{"M6 blank behind", []mail.Part{file("a.exe ", "", "")}, "banned-extension 2"},
		{"M6 stream", []mail.Part{file("a.exe::$DATA", "", "")}, "banned-extension 2"},
		{"M6 folder", []mail.Part{file(`..\..\a.exe`, "", "")}, "banned-extension 2"},
		{"M6 turned", []mail.Part{file("inv\u202efdp.exe", "", "")}, "banned-extension 2"},
		{"M6 zero width", []mail.Part{file("a.e\u200bxe", "", "")}, "banned-extension 2"},
		{"M6 NUL", []mail.Part{file("a.exe\x00.txt", "", "")}, "banned-extension 2"},
		{"M6 long", []mail.Part{file(strings.Repeat("a", 3000)+".exe", "", "")}, "banned-extension 2"},
		{"M6 only an extension", []mail.Part{file(".exe", "", "")}, "banned-extension 2"},
		{"M2 second name", []mail.Part{{Path: "2", Names: []string{"a.txt", "b.exe"}}}, "banned-extension 2"},
		{"two", []mail.Part{file("a.exe", "", ""), {Path: "3", Names: []string{"b.com"}}}, "banned-extension 2|banned-extension 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(classes(t, f, transaction(&mail.Inside{Parts: tt.parts}, "u@example.com")), "|")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The rules of Protector: everything is refused but what is listed, by content,
// with names and declared types that agree.
func TestAllowList(t *testing.T) {
	f := load1(t, Config{Allow: []Allow{{Scope: Scope{Name: "a"}, Types: []string{"images", "office", "pdf", "application/zip", "calendar"}}}})
	macros := func(p mail.Part) mail.Part { p.Macros = true; return p }
	encrypted := func(p mail.Part) mail.Part { p.Encrypted = true; return p }
	text := mail.Part{Path: "1", Declared: "text/plain", Detected: "text/plain", Inline: true}
	signature := file("smime.p7s", "application/pkcs7-signature", "application/octet-stream")
	signature.Protected = true
	tests := []struct {
		name  string
		parts []mail.Part
		want  string
	}{
		{"PNG named png", []mail.Part{text, file("a.png", "image/png", "image/png")}, ""},
		{"PNG declared as unknown", []mail.Part{file("a.png", "application/octet-stream", "image/png")}, ""},
		{"PE named png", []mail.Part{file("a.png", "image/png", exe)}, "not-allowed 2"},
		{"PNG named exe", []mail.Part{file("a.exe", "image/png", "image/png")}, "mismatch 2"},
		{"PNG declared as PDF", []mail.Part{file("a.png", "application/pdf", "image/png")}, "mismatch 2"},
		{"PNG with a second name", []mail.Part{{Path: "2", Names: []string{"a.png", "b.scr"}, Declared: "image/png", Detected: "image/png"}}, "mismatch 2"},
		{"a document", []mail.Part{file("a.doc", "application/msword", "application/msword")}, ""},
		{"a document with macros", []mail.Part{macros(file("a.doc", "application/msword", "application/msword"))}, "macros 2"},
		{"docm named docx", []mail.Part{macros(file("a.docx", "", docx))}, "macros 2"},
		{"zip with PNG", in(file("a.png", "", "image/png")), ""},
		{"zip with a program", in(file("x.exe", "", exe)), "not-allowed 2/papers.zip/x.exe"},
		{"zip with unknown", in(file("x.bin", "", "application/octet-stream")), "not-allowed 2/papers.zip/x.bin"},
		{"unknown", []mail.Part{file("a.x", "application/x-unknown", "application/octet-stream")}, "not-allowed 2"},
		{"encrypted zip", []mail.Part{encrypted(file("a.zip", "application/zip", "application/zip"))}, "encrypted 2"},
		{"text to read", []mail.Part{text}, ""},
		{"text as a file", []mail.Part{file("a.txt", "text/plain", "text/plain")}, "not-allowed 2"},
		{"script without a name", []mail.Part{{Path: "1", Declared: "text/plain", Detected: "text/x-shellscript", Program: true}}, "not-allowed 1"},
		{"signature", []mail.Part{text, signature}, ""},
		{"invitation", []mail.Part{text, file("invite.ics", "text/calendar", "text/calendar")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(classes(t, f, transaction(&mail.Inside{Parts: tt.parts}, "u@example.com")), "|")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	got := classes(t, f, transaction(&mail.Inside{Unseen: []string{"depth"}}, "u@example.com"))
	if !slices.Equal(got, []string{"unseen"}) {
		t.Errorf("what can't be looked into: %q", got)
	}
}

func TestKinds(t *testing.T) {
	f := load1(t, Config{Deny: []Deny{
		{Scope: Scope{Name: "a"}, Programs: true},
		{Scope: Scope{Name: "b"}, Macros: true, Encrypted: true},
		{Scope: Scope{Name: "c", TopOnly: true}, Names: []string{`^invoice.*\.html?$`}, Detected: []string{"video/*"}, Ignore: []string{`^invoice-of-acme`}},
	}})
	tests := []struct {
		name string
		part mail.Part
		want string
	}{
		{"program", mail.Part{Path: "1", Program: true}, "program 1"},
		{"macros", mail.Part{Path: "1", Macros: true}, "macros 1"},
		{"encrypted", mail.Part{Path: "1", Encrypted: true}, "encrypted 1"},
		{"name", mail.Part{Path: "1", Names: []string{"Invoice 7.HTM"}}, "banned-name 1"},
		{"ignored name", mail.Part{Path: "1", Names: []string{"invoice-of-acme.html"}}, ""},
		{"ignored name, bad content", mail.Part{Path: "1", Names: []string{"invoice-of-acme.html"}, Detected: "video/mp4"}, "banned-content 1"},
		{"in an archive", mail.Part{Path: "1/x/invoice.html", Names: []string{"invoice.html"}, Depth: 1}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(classes(t, f, transaction(&mail.Inside{Parts: []mail.Part{tt.part}}, "u@example.com")), "|")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	f := load1(t, Config{
		Deny: []Deny{
			{Scope: Scope{Name: "all", NotRecipients: []string{"admin@example.com"}}, Extensions: []string{"exe"}},
			{Scope: Scope{Name: "some", Recipients: []string{".example.net", "example.org"}}, Extensions: []string{"pdf"}},
		},
		Allow: []Allow{
			{Scope: Scope{Name: "pictures", Recipients: []string{"bank.example"}}, Types: []string{"images"}},
			{Scope: Scope{Name: "boss", Recipients: []string{"boss@bank.example"}}, Types: []string{"pdf"}},
		},
	})
	tests := []struct {
		name string
		part mail.Part
		to   []string
		want string
	}{
		{"everybody", file("a.exe", "", ""), []string{"u@example.com", "v@example.org"}, "banned-extension 2"},
		{"not the admin", file("a.exe", "", ""), []string{"u@example.com", "Admin@example.com"}, "banned-extension 2 u@example.com"},
		{"the admin alone", file("a.exe", "", ""), []string{"admin@example.com"}, ""},
		{"a domain", file("a.pdf", "application/pdf", "application/pdf"), []string{"u@example.com", "v@example.org"}, "banned-extension 2 v@example.org"},
		{"below a domain", file("a.pdf", "application/pdf", "application/pdf"), []string{"u@x.example.net", "v@example.net"}, "banned-extension 2 u@x.example.net"},
		{"on the list", file("a.png", "image/png", "image/png"), []string{"u@bank.example"}, ""},
		{"on no list of his", file("a.pdf", "application/pdf", "application/pdf"), []string{"u@bank.example", "boss@bank.example", "x@example.com"}, "not-allowed 2 u@bank.example"},
		{"nobody, for all", file("a.exe", "", ""), nil, "banned-extension 2"},
		{"nobody, for some", file("a.pdf", "application/pdf", "application/pdf"), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(classes(t, f, transaction(&mail.Inside{Parts: []mail.Part{tt.part}}, tt.to...)), "|")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	f := load1(t, Config{})
	inside := &mail.Inside{}
	for range maxParts + 100 {
		inside.Parts = append(inside.Parts, file("a.exe", "", ""))
	}
	got := classes(t, f, transaction(inside, "u@example.com"))
	if len(got) != maxParts+1 || got[maxParts] != "banned-extension" {
		t.Errorf("%d findings, the last %q; want one for the rest, without a part", len(got), got[len(got)-1])
	}
	if _, err := f.Check(context.Background(), transaction(nil)); err == nil {
		t.Error("a message that was not taken apart: no error")
	}
}

func TestTitle(t *testing.T) {
	tests := []struct {
		part mail.Part
		want string
	}{
		{mail.Part{Path: "2", Names: []string{"a.exe"}}, `"a.exe"`},
		{mail.Part{Path: "2"}, "a part without a name"},
		{mail.Part{Path: "2", Names: []string{"a\r\n\x1b[2J\"b\u202e.exe"}}, `"a [2J'b.exe"`},
		{mail.Part{Path: "2/x.zip/a.exe", Depth: 1, Names: []string{"a.exe"}}, `"a.exe" in "x.zip"`},
		{mail.Part{Path: "2", Names: []string{strings.Repeat("é", 500)}}, `"` + strings.Repeat("é", 40) + "…" + strings.Repeat("é", 40) + `"`},
	}
	for _, tt := range tests {
		if got := Title(tt.part); got != tt.want {
			t.Errorf("Title(%+v) = %q, want %q", tt.part, got, tt.want)
		}
	}
}

func TestConformance(t *testing.T) {
	filtertest.Run(t, filtertest.Subject{
		New: func(t *testing.T) filters.Step { return load1(t, Config{}).Step() },
		Prepare: func(tx *mail.Transaction) {
			tx.Inside = &mail.Inside{Parts: []mail.Part{file("a.exe", "", exe)}}
		},
		Broken: map[string]func(t *testing.T) filters.Step{},
	})
}

// Whatever the name, what would be written to a disk ends as the list sees it.
func FuzzPlainName(f *testing.F) {
	for _, s := range []string{"a.exe", "a.exe. ", "a\u202eexe.txt", `c:\x\a.exe::$DATA`, "\x00", "{", "a.{00020420-0000-0000-C000-000000000046}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n := plainName(name)
		if n != strings.TrimRight(n, ". \t") || strings.ContainsAny(n, "/\\\x00") {
			t.Errorf("plainName(%q) = %q", name, n)
		}
		if again := plainName(n); again != n {
			t.Errorf("plainName(%q) = %q, then %q", name, n, again)
		}
		endsInCLSID(n)
		Title(mail.Part{Path: "1/" + name, Depth: 1, Names: []string{name}})
	})
}
