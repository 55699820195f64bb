package attachments

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMistakes(t *testing.T) {
	list := func(name string) Scope { return Scope{Name: name} }
	tests := []struct {
		name string
		cfg  Config
		want string // parts of the error, in any order, separated by |
	}{
		{"no name", Config{Deny: []Deny{{Extensions: []string{"exe"}}}}, "deny[0].name: missing"},
		{"one name twice", Config{Deny: []Deny{{Scope: list("a"), Macros: true}, {Scope: list("a"), Programs: true}}}, `deny[1].name: "a" is the name of deny[0], too`},
		{"bans nothing", Config{Deny: []Deny{{Scope: list("a")}}}, "deny[0]: bans nothing"},
		{"no ending", Config{Deny: []Deny{{Scope: list("a"), Extensions: []string{"*.exe"}}}}, `deny[0].extensions[0]: "*.exe" is no ending`},
		{"an ending twice", Config{Deny: []Deny{{Scope: list("a"), Extensions: []string{"exe", ".EXE"}}}}, `deny[0].extensions[1]: ".EXE" is at deny[0].extensions[0] already`},
		{"bad expression", Config{Deny: []Deny{{Scope: list("a"), Names: []string{"a(b"}}}}, "deny[0].names[0]: missing closing ): `a(b`"},
		{"expression of everything", Config{Deny: []Deny{{Scope: list("a"), Names: []string{"a*"}}}}, `deny[0].names[0]: "a*" fits every name`},
		{"no media type", Config{Deny: []Deny{{Scope: list("a"), Declared: []string{"exe"}}}}, `deny[0].declared[0]: "exe" is no media type`},
		{"no recipient", Config{Deny: []Deny{{Scope: Scope{Name: "a", Recipients: []string{"a b"}}, Macros: true}}}, `deny[0].recipients[0]: "a b" is no recipient`},
		{"one in both", Config{Deny: []Deny{{Scope: Scope{Name: "a", Recipients: []string{"x.example"}, NotRecipients: []string{"X.example"}}, Macros: true}}}, "deny[0].not_recipients[0]: \"x.example\" is in recipients, too"},
		{"no such file", Config{Deny: []Deny{{Scope: list("a"), Extensions: []string{"file:/nowhere"}}}}, "deny[0].extensions[0]: open /nowhere"},
		{"never counts", Config{Deny: []Deny{{Scope: list("a"), Extensions: []string{"exe"}}, {Scope: Scope{Name: "b", Recipients: []string{"x.example"}}, Extensions: []string{"exe"}}}}, `deny[1].extensions[0]: "exe" never counts; it is at deny[0].extensions[0]`},
		{"allowed and denied", Config{Deny: []Deny{{Scope: list("a"), Extensions: []string{"pdf"}}}, Allow: []Allow{{Scope: list("b"), Types: []string{"pdf"}}}}, `allow[0].types: "application/pdf" can't pass, as the list "a"`},
		{"nothing allowed", Config{Allow: []Allow{{Scope: list("a")}}}, "allow[0].types: missing"},
		{"unknown type", Config{Allow: []Allow{{Scope: list("a"), Types: []string{"application/x-foo"}}}}, `allow[0].types[0]: "application/x-foo" is not known here`},
		{"a type without endings", Config{Types: map[string]Names{"application/x-foo": {}}}, `types."application/x-foo".extensions: missing`},
		{"several", Config{Deny: []Deny{{Extensions: []string{"a b"}}}}, "deny[0].name|deny[0].extensions[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Timeout = DefaultConfig().Timeout
			_, err := Load(tt.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for want := range strings.SplitSeq(tt.want, "|") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is\n%v\nwant %q in it", err, want)
				}
			}
		})
	}
}

func TestListsMayOverlap(t *testing.T) {
	for name, cfg := range map[string]Config{
		"other action":     {Deny: []Deny{{Scope: Scope{Name: "a", Action: Tag}, Extensions: []string{"exe"}}, {Scope: Scope{Name: "b", Recipients: []string{"x.example"}}, Extensions: []string{"exe"}}}},
		"others first":     {Deny: []Deny{{Scope: Scope{Name: "b", Recipients: []string{"x.example"}}, Extensions: []string{"exe"}}, {Scope: Scope{Name: "a"}, Extensions: []string{"exe"}}}},
		"ours and theirs":  {Deny: []Deny{{Scope: Scope{Name: "a"}, Standard: true, Extensions: []string{"exe", "ps1"}}}},
		"a type of theirs": {Allow: []Allow{{Scope: Scope{Name: "a"}, Types: []string{"application/x-foo", "pdf"}}}, Types: map[string]Names{"application/x-foo": {Extensions: []string{"foo"}}}},
	} {
		if _, err := load(cfg, true); err != nil && !strings.HasPrefix(err.Error(), "timeout") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endings")
	if err := os.WriteFile(path, []byte("# of ours\nexe\n\n  scr  \na b\nexe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Deny = []Deny{{Scope: Scope{Name: "a"}, Extensions: []string{"pif", "file:" + path}}}
	_, err := Load(cfg)
	if err == nil || !strings.Contains(err.Error(), path+":5: ") || !strings.Contains(err.Error(), path+":6: ") {
		t.Fatalf("error is %v, want lines 5 and 6", err)
	}
	if err := cfg.Validate(); err != nil {
		t.Errorf("Validate reads files: %v", err)
	}
	if err := os.WriteFile(path, []byte("exe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(cfg)
	if err != nil || f.lists.deny[0].ext["exe"] != path+":1" || f.lists.deny[0].ext["pif"] == "" {
		t.Errorf("lists %+v, %v", f, err)
	}
	if got := cfg.Files(); len(got) != 1 || got[0] != path {
		t.Errorf("Files = %q", got)
	}
}
