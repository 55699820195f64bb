package rewrite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, c Config) *Rewriter {
	t.Helper()
	r, err := Load(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func join(list []mail.Address) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

const virtusers = `# comment
info@	foo-info
joe@	error:nouser 550 No such user here
jax@	error:5.7.0:550 Address invalid
tmp@	error:4.2.2:450 mailbox full
old+*@	new+%2@target.example
gen++@	%1%3@plus.example
@	%1%3@catch.example
one@virt.example	two@virt.example
two@virt.example	three@other.example
round@virt.example	about@virt.example
about@virt.example	round@virt.example
@local.example	error:nouser User unknown
`

// What sendmail's own rules make of the same table.
func TestVirtusertable(t *testing.T) {
	r := load(t, Config{Virtusertable: file(t, virtusers), VirtualDomains: []string{"virt.example", "local.example"}})
	for _, tt := range []struct{ in, to, refusal string }{
		{"info@virt.example", "foo-info@catch.example", ""},
		{"INFO@Virt.Example", "foo-info@catch.example", ""},
		{"joe@virt.example", "", "550 5.1.1 No such user here"},
		{"jax@virt.example", "", "550 5.7.0 Address invalid"},
		{"tmp@virt.example", "", "450 4.2.2 mailbox full"},
		{"old+abc@virt.example", "new+abc@target.example", ""},
		{"old@virt.example", "old@catch.example", ""},
		{"gen+abc@virt.example", "gen+abc@plus.example", ""},
		{"gen+@virt.example", "gen+@catch.example", ""},
		{"gen@virt.example", "gen@catch.example", ""},
		{"any+d@virt.example", "any+d@catch.example", ""},
		{"one@virt.example", "three@other.example", ""},
		{"x@local.example", "", "553 5.1.1 User unknown"},
		{"x@elsewhere.example", "x@elsewhere.example", ""},
		{"round@virt.example", "round@virt.example", ""},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := r.Incoming(address(t, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			refusal := ""
			if !got.Refusal.IsZero() {
				refusal = got.Refusal.String()
			}
			if join(got.To) != tt.to || refusal != tt.refusal {
				t.Errorf("to %q, refusal %q; want %q, %q", join(got.To), refusal, tt.to, tt.refusal)
			}
		})
	}
}

func TestAliases(t *testing.T) {
	r := load(t, Config{AliasDomains: []string{"local.example"}, Aliases: file(t, `
# comment
postmaster: root
root: alice, bob@far.example,
	"carol"
joe: \joe, archive@far.example
self: self
a: b
b: a
Mixed: Alice
`)})
	for _, tt := range []struct{ in, to string }{
		{"postmaster@local.example", "alice@local.example bob@far.example carol@local.example"},
		{"joe@local.example", "joe@local.example archive@far.example"},
		{"joe+list@local.example", "joe@local.example archive@far.example"},
		{"self@local.example", "self@local.example"},
		{"a@local.example", "a@local.example"},
		{"MIXED@local.example", "Alice@local.example"},
		{"dave@local.example", "dave@local.example"},
		{"root@far.example", "root@far.example"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := r.Incoming(address(t, tt.in))
			if err != nil || join(got.To) != tt.to {
				t.Errorf("%q %v, want %q", join(got.To), err, tt.to)
			}
		})
	}
}

// A table that makes ever more of an address ends in an error, not in memory.
func TestEndless(t *testing.T) {
	r := load(t, Config{Virtusertable: file(t, "@virt.example %1x@virt.example\n"), VirtualDomains: []string{"virt.example"}})
	if got, err := r.Incoming(address(t, "a@virt.example")); err == nil {
		t.Errorf("%v", got)
	}
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "all%d: ", i)
		for j := range 100 {
			fmt.Fprintf(&b, "u%d.%d@far.example, ", i, j)
		}
		fmt.Fprintf(&b, "all%d\n", i+1)
	}
	r = load(t, Config{Aliases: file(t, b.String()), AliasDomains: []string{"local.example"}})
	if got, err := r.Incoming(address(t, "all0@local.example")); err == nil {
		t.Errorf("%d targets", len(got.To))
	}
}

func TestSenders(t *testing.T) {
	r := load(t, Config{
		MasqueradeAs: "example.com", MasqueradeDomains: []string{".example.com", "old.example"}, MasqueradeExceptions: []string{"lab.example.com"},
		ExposedUsers: []string{"root"}, MasqueradeEnvelope: true,
		Genericstable:   file(t, "al@host.example.com alice.smith\nbob Bob.B@other.example\nlist+*@host.example.com lists+%1@example.com\n@gone.example %1-old@example.com\n"),
		GenericsDomains: []string{"host.example.com", "gone.example"},
	})
	for _, tt := range []struct{ in, out string }{
		{"u@pc.example.com", "u@example.com"},
		{"u@old.example", "u@example.com"},
		{"u@example.com", "u@example.com"},
		{"u@lab.example.com", "u@lab.example.com"},
		{"ROOT@pc.example.com", "ROOT@pc.example.com"},
		{"u@elsewhere.example", "u@elsewhere.example"},
		{"al@host.example.com", "alice.smith@example.com"},
		{"al+x@host.example.com", "alice.smith@example.com"},
		{"bob@host.example.com", "Bob.B@other.example"},
		{"bob@pc.example.com", "bob@example.com"},
		{"list+News@host.example.com", "lists+News@example.com"},
		{"x@gone.example", "x-old@example.com"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, _ := r.senders.rewrite(address(t, tt.in))
			if got.String() != tt.out {
				t.Errorf("%s, want %s", got, tt.out)
			}
		})
	}

	header := mail.Header{}
	for _, raw := range []string{"Received: from u@pc.example.com\r\n", "FROM:  \"A (x) <a@pc.example.com>\" <u@pc.example.com> (c@pc.example.com),\r\n\tv@pc.example.com\r\n",
		"To: w@pc.example.com\r\n", "Reply-To: broken <x@pc.example.com\r\n"} {
		f, ok := mail.RawField(raw)
		if !ok {
			t.Fatal(raw)
		}
		header = append(header, f)
	}
	env := mail.Envelope{Sender: mail.Path{Address: address(t, "u@pc.example.com"), Args: []string{"RET=HDRS"}}}
	env, m := mail.Apply(env, mail.NewMessage(header, strings.NewReader(""), 0), r.Outgoing(env, header))
	want := "Received: from u@pc.example.com\r\nFROM:  \"A (x) <a@pc.example.com>\" <u@example.com> (c@pc.example.com),\r\n\tv@example.com\r\n" +
		"To: w@pc.example.com\r\nReply-To: broken <x@pc.example.com\r\n"
	if got := string(m.Header.Bytes()); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	if env.Sender.String() != "u@example.com" || len(env.Sender.Args) != 1 {
		t.Errorf("sender %+v", env.Sender)
	}
}

func TestAddressSpans(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"a@b.example", "a@b.example", true},
		{" A. B. <a@b.example>, \"c, d\" <e@f.example> ,g@h.example", "a@b.example e@f.example g@h.example", true},
		{"friends: a@b.example, c@d.example;, e@f.example", "a@b.example c@d.example e@f.example", true},
		{"undisclosed-recipients:;", "", true},
		{"\"a b\"@c.example", "\"a b\"@c.example", true},
		{"a@b.example (x (y) <z@w.example>)", "a@b.example", true},
		{"a @ b.example", "", true},
		{"<@r.example:a@b.example>", "@r.example:a@b.example", true},
		{"a@b.example <c@d.example>", "c@d.example", true},
		{"=?utf-8?q?a=40b?= <c@d.example>", "c@d.example", true},
		{"<a@b.example", "", false},
		{"(open <a@b.example>", "", false},
		{"\"open <a@b.example>", "", false},
		{"a> <b@c.example>", "", false},
		{"", "", true},
	} {
		spans, ok := addressSpans(tt.in)
		var got []string
		for _, s := range spans {
			got = append(got, tt.in[s.from:s.to])
		}
		if ok != tt.ok || strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q %v, want %q %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestBadTables(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no domains", Config{MasqueradeAs: "example.com"}, "needs masquerade_domains"},
		{"no table", Config{AliasDomains: []string{"a.example"}}, "does nothing without aliases"},
		{"no file", Config{Aliases: "/nowhere", AliasDomains: []string{"a.example"}}, "no such file"},
		{"no value", Config{Virtusertable: file(t, "a@b.example x@y.example\nc@d.example\n"), VirtualDomains: []string{"b.example"}}, ":2: c@d.example has no value"},
		{"twice", Config{Virtusertable: file(t, "a@b.example x@y.example\nA@b.example z@y.example\n"), VirtualDomains: []string{"b.example"}}, ":2: a@b.example is already in line 1"},
		{"no key", Config{Virtusertable: file(t, "b.example x@y.example\n"), VirtualDomains: []string{"b.example"}}, ":1: b.example: want user@domain"},
		{"a list", Config{Virtusertable: file(t, "a@b.example x@y.example, z@y.example\n"), VirtualDomains: []string{"b.example"}}, "lists of them belong to aliases"},
		{"no code", Config{Virtusertable: file(t, "a@b.example error:nosuch:text\n"), VirtualDomains: []string{"b.example"}}, "want an enhanced code"},
		{"a program", Config{Aliases: file(t, "x: \"|/bin/sh\"\n"), AliasDomains: []string{"b.example"}}, ":1: \"|/bin/sh\": programs"},
		{"a file of addresses", Config{Aliases: file(t, "x: :include:/etc/list\n"), AliasDomains: []string{"b.example"}}, "lists from files"},
		{"nothing to go on", Config{Aliases: file(t, "  x: y\n"), AliasDomains: []string{"b.example"}}, "nothing is before it"},
		{"no address", Config{Genericstable: file(t, "a@b.example x y@z\n"), GenericsDomains: []string{"b.example"}}, ":1: a@b.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Load(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzField(f *testing.F) {
	f.Add("A <a@b.example>, (x) c@b.example; g: h@b.example;\r\n")
	f.Add("\"q\\\" <x@y>\" <a@b.example>\r\n\t(c <d@b.example>)\r\n")
	f.Fuzz(func(t *testing.T, value string) {
		field, ok := mail.RawField("From: " + value + "\r\n")
		if !ok {
			return
		}
		to := mail.Address{Local: "z", Domain: "new.example"}
		got, changed := rewriteField(field, func(a mail.Address) (mail.Address, bool) { return to, true })
		if !changed {
			return
		}
		if _, ok := mail.RawField(string(got.Raw())); !ok {
			t.Fatalf("%q became %q", field.Raw(), got.Raw())
		}
	})
}
