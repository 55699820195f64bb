package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"gatepost/internal/mail"
	"gatepost/rules/policy"
)

// TestGolden holds rule files to what becomes of a message with them, or to what
// is wrong with them. A file has rules.toml, lists, and either "mail" with the
// expected "verdict", or the expected "error"; it may have "warning". With
// -update what was expected is rewritten: read the difference.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("policy/testdata/golden/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		isBad := false
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { isBad = golden(t, file, ar) })
		if isBad {
			bad++
		}
	}
	if len(files) < 120 || bad*3 < len(files) {
		t.Errorf("%d files, %d of them with errors: want 120, and a third of them", len(files), bad)
	}
}

// golden runs one file and reports whether it expects an error.
func golden(t *testing.T, file string, ar *txtar.Archive) (isBad bool) {
	t.Helper()
	dir := t.TempDir()
	expected := make(map[string]int)
	describe := ""
	for i, f := range ar.Files {
		switch f.Name {
		case "mail":
			describe = string(f.Data)
		case "verdict", "error", "warning":
			expected[f.Name] = i
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cfg := DefaultConfig()
	cfg.Hostname = "mx1.example.net"
	cfg.Files = policy.Config{Files: []string{filepath.Join(dir, "*.toml")}, Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.Local)}
	set, err := Load(cfg)
	got := make(map[string]string)
	relative := func(s string) string { return strings.ReplaceAll(s, dir+"/", "") }
	if err != nil {
		got["error"] = relative(err.Error()) + "\n"
	} else {
		if w := set.policy.Warnings(); len(w) > 0 {
			got["warning"] = relative(w.Error()) + "\n"
		}
		tx, err := policy.Describe("mail", describe)
		if err != nil {
			t.Fatalf("its own mail: %v", err)
		}
		got["verdict"] = relative(showVerdict(set.Decide(tx, nil)))
	}
	for _, name := range []string{"warning", "verdict", "error"} {
		want := ""
		if i, ok := expected[name]; ok {
			want = string(ar.Files[i].Data)
		}
		if got[name] == want {
			continue
		}
		if !*update {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got[name], want)
			continue
		}
		if i, ok := expected[name]; ok {
			ar.Files[i].Data = []byte(got[name])
		} else {
			ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
		if err := os.WriteFile(file, txtar.Format(ar), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, isBad = got["error"]
	return isBad
}

// showVerdict prints all of a verdict that matters.
func showVerdict(v mail.Verdict) string {
	var b strings.Builder
	one := func(indent string, v mail.Verdict) {
		fmt.Fprintf(&b, "%s%s", indent, v.Action)
		if !v.Reply.IsZero() {
			fmt.Fprintf(&b, " %s", v.Reply)
		}
		fmt.Fprintln(&b)
		if v.Reason != "" {
			fmt.Fprintf(&b, "%s  because %s\n", indent, v.Reason)
		}
		for _, e := range v.Edits {
			fmt.Fprintf(&b, "%s  %s\n", indent, showEdit(e))
		}
		for _, a := range v.Alter {
			fmt.Fprintf(&b, "%s  %T%v\n", indent, a, a)
		}
	}
	one("", v)
	for i, r := range v.Recipients {
		fmt.Fprintf(&b, "recipient %d\n", i+1)
		one("  ", r)
	}
	for _, h := range v.Rules {
		observe, to := "", ""
		if h.Observe {
			observe = " (observes)"
		}
		if !h.Rcpt.IsNull() {
			to = " for " + h.Rcpt.String()
		}
		fmt.Fprintf(&b, "rule %s %s: %s%s%s\n", h.Rule, h.Where, h.Did, observe, to)
	}
	for _, l := range v.Listings {
		fmt.Fprintf(&b, "list %s: %s for %s by %s\n", l.List, l.Key, l.For, l.Rule)
	}
	for _, n := range v.Notices {
		fmt.Fprintf(&b, "notify %s by %s of %v\n", n.To, n.Rule, n.Rcpts)
	}
	return b.String()
}

func showEdit(e mail.Edit) string {
	line := func(f mail.Field) string { return strings.TrimRight(string(f.Raw()), "\r\n") }
	switch e := e.(type) {
	case mail.InsertHeader:
		return fmt.Sprintf("insert at %d %s", e.At, line(e.Field))
	case mail.ChangeHeader:
		return fmt.Sprintf("change %d to %s", e.At, line(e.Field))
	case mail.DeleteHeader:
		return fmt.Sprintf("delete %d", e.At)
	case mail.AddRecipient:
		return fmt.Sprintf("add %s %v", e.Recipient.Address, e.Recipient.Args)
	case mail.DeleteRecipient:
		return fmt.Sprintf("remove %s", e.Recipient)
	}
	return fmt.Sprintf("%T", e)
}
