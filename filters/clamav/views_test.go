package clamav

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/internal/testkit"
)

// inspected is a message of which is known what is inside.
func inspected(t *testing.T, text string) *mail.Transaction {
	t.Helper()
	tx := message(t, text)
	tx.Inside = mime.Inspect(t.Context(), tx.Message, mime.DefaultConfig())
	return tx
}

const twoParts = "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream; name=a.com\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
	"RUlDQVI=\r\n--b--\r\n"

// finds answers within a session by what is in the content.
func finds(word, signature string) func(int, string) string {
	return func(n int, content string) string {
		if strings.Contains(content, word) {
			return fmt.Sprintf("%d: stream: %s FOUND\x00", n, signature)
		}
		return fmt.Sprintf("%d: stream: OK\x00", n)
	}
}

// P1 within a session: each content is asked about, and only its own whole OK is
// clean.
func TestViews(t *testing.T) {
	says := func(format string) func(int, string) string {
		return func(n int, _ string) string { return fmt.Sprintf(format, n) }
	}
	for name, tt := range map[string]struct {
		numbered func(int, string) string
		want     string
	}{
		"clean":               {says("%d: stream: OK\x00"), "clean"},
		"in a part":           {finds("EICAR", "Eicar"), "virus Eicar"},
		"suspicious":          {finds("EICAR", "PUA.x"), "suspicious PUA.x"},
		"another number":      {says("9%d: stream: OK\x00"), "error"},
		"no number":           {func(int, string) string { return "stream: OK\x00" }, "error"},
		"two answers":         {says("%[1]d: stream: OK\x00%[1]d: stream: OK\x00"), "error"},
		"the next one's, too": {says("%d: stream: OK\x002: stream: OK\x00"), "error"},
		"an error":            {says("%d: stream: Can't allocate memory ERROR\x00"), "error"},
		"cut":                 {says("%d: stream: OK"), "error"},
		"nothing":             {func(int, string) string { return "" }, "error"},
		"size limit":          {says("%d: INSTREAM size limit exceeded. ERROR\x00"), "not-scanned too large"},
		"endless":             {says("%d: " + strings.Repeat("x", 1<<20)), "error"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := (&fakeClamd{reply: "stream: OK\x00", numbered: tt.numbered}).start(t, "tcp")
			f := scanner(t, Config{Timeout: 300 * time.Millisecond}, fake.address)
			if name == "clean" || tt.want != "error" {
				f = scanner(t, Config{}, fake.address)
			}
			r, err := f.Check(t.Context(), inspected(t, twoParts))
			if got := verdict(r, err); got != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// A message in plain text costs one question, whoever writes it.
func TestPlainIsAskedOnce(t *testing.T) {
	for _, text := range []string{plain, filtertest.Plain, string(testkit.Message("1", "hello", testkit.Filler(5000)))} {
		fake := (&fakeClamd{reply: "stream: OK\x00", numbered: finds("none", "x")}).start(t, "tcp")
		if r, err := scanner(t, Config{}, fake.address).Check(t.Context(), inspected(t, text)); verdict(r, err) != "clean" {
			t.Errorf("%v, %v", r, err)
		}
		if asked := fake.asked(); asked != "zINSTREAM" {
			t.Errorf("asked %s", asked)
		}
	}
}

// Over a limit of taking apart is not scanned.
func TestViewsOverLimits(t *testing.T) {
	fake := (&fakeClamd{reply: "stream: OK\x00", numbered: finds("none", "x")}).start(t, "tcp")
	limits := mime.DefaultConfig()
	limits.Parts = 1
	r, err := scanner(t, Config{Inside: limits}, fake.address).Check(t.Context(), inspected(t, twoParts))
	if got := verdict(r, err); got != "not-scanned limit of parts" {
		t.Errorf("%s, %v", got, err)
	}
}

// What each class is taken for.
func TestClasses(t *testing.T) {
	for signature, tt := range map[string]struct {
		change func(*Config)
		want   mail.Finding
	}{
		"Heuristics.Phishing.Email.SpoofedDomain": {func(c *Config) { c.Phishing = "score 4.5" }, mail.Finding{Name: FindingSuspicious, Score: 4.5}},
		"PUA.Win.Packer.Upx":                      {func(c *Config) { c.PUA = "virus" }, mail.Finding{Name: mail.FindingVirus}},
		"Heuristics.OLE2.ContainsMacros.VBA":      {func(c *Config) { c.Macros = "virus" }, mail.Finding{Name: mail.FindingVirus}},
		"Heuristics.Structured.SSN":               {func(c *Config) { c.Structured = "score 0" }, mail.Finding{Name: FindingSuspicious}},
		"Heuristics.Broken.Executable":            {func(c *Config) { c.Broken = "not-scanned" }, mail.Finding{Name: mail.FindingNotScanned}},
		"Heuristics.Encrypted.Zip":                {func(c *Config) { c.Encrypted = "suspicious" }, mail.Finding{Name: FindingSuspicious}},
		"Heuristics.Limits.Exceeded.MaxFiles":     {func(c *Config) { c.Encrypted = "suspicious" }, mail.Finding{Name: mail.FindingNotScanned}},
		"Eicar":                                   {func(c *Config) { c.Phishing = "score 1" }, mail.Finding{Name: mail.FindingVirus}},
	} {
		cfg := DefaultConfig()
		tt.change(&cfg)
		got := cfg.classify(signature)
		if got.Name != tt.want.Name || got.Score != tt.want.Score || got.Value != signature {
			t.Errorf("%s: %+v, want %+v", signature, got, tt.want)
		}
	}
	for _, bad := range []Class{"reject", "score", "score x", "score -1", "score 1e9", "score NaN", "Virus"} {
		if _, err := New(Config{PUA: bad}); err == nil || !strings.Contains(err.Error(), "pua: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// 555 messages that hide EICAR from filters, in front of a real clamd: how many
// it finds by itself, and that with every view none is called clean.
func TestRealClamdSeesEveryView(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clamd")
	}
	d := testkit.Up(t, testkit.NewClamd(testkit.Dir(t), "AlertEncrypted yes", "AlertExceedsMax yes"))
	alone := scanner(t, Config{Timeout: time.Minute}, "unix:"+d.Socket)
	var raw, found, flagged, named int
	all := testkit.HostileMail(testkit.EICAR())
	for _, h := range all {
		tx := inspected(t, h.Raw)
		r, err := alone.Check(t.Context(), tx)
		got := verdict(r, err)
		if err != nil {
			t.Errorf("%s: %v", h.Name, err)
			continue
		}
		if a, err := alone.scan(t.Context(), tx.Message); err == nil && a.result == infected {
			raw++
		}
		switch {
		case strings.Contains(got, "virus Eicar"):
			found++
		case strings.Contains(got, mail.FindingNotScanned) || len(tx.Inside.Ambiguous) > 0 || len(tx.Inside.Unseen) > 0:
			flagged++
			t.Logf("flagged only: %s: %s %v %v", h.Name, got, tx.Inside.Ambiguous, tx.Inside.Unseen)
		case slices.ContainsFunc(tx.Inside.Parts, func(p mail.Part) bool { return slices.Contains(p.Names, "invoice.exe") }):
			named++ // no mail program decodes it, either
			t.Logf("by its name only: %s", h.Name)
		default:
			t.Errorf("%s: %s", h.Name, got)
		}
	}
	t.Logf("of %d messages clamd finds %d in the message as it came, %d with every view; %d more are flagged, %d have the name", len(all), raw, found, flagged, named)
	if found <= raw {
		t.Errorf("of %d: %d and %d", len(all), raw, found)
	}
}

// EICAR in each kind of archive that can be made here.
func TestRealClamdOpensArchives(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clamd")
	}
	d := testkit.Up(t, testkit.NewClamd(testkit.Dir(t), "AlertEncrypted yes", "AlertExceedsMax yes"))
	f := scanner(t, Config{Timeout: time.Minute}, "unix:"+d.Socket)
	for name, content := range archives(t, []byte(testkit.EICAR())) {
		r, err := f.Check(t.Context(), inspected(t, attachment(name, content)))
		if got := verdict(r, err); !strings.Contains(got, "virus Eicar") {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestContract(t *testing.T) {
	with := func(f func() *fakeClamd, network string) func(t *testing.T) filters.Step {
		return func(t *testing.T) filters.Step {
			return scanner(t, Config{Timeout: 30 * time.Second}, f().start(t, network).address).Step()
		}
	}
	inside := func(tx *mail.Transaction) {
		if tx.Inside = (&mail.Inside{}); tx.Message.Size() < 100_000 {
			tx.Inside = mime.Inspect(t.Context(), tx.Message, mime.DefaultConfig())
		}
	}
	const network, object = "unix", "fd[10]"
	filtertest.Run(t, filtertest.Subject{
		New:    with(func() *fakeClamd { return &fakeClamd{reply: object + ": OK\x00", numbered: finds("none", "x")} }, network),
		Silent: with(func() *fakeClamd { return &fakeClamd{silent: true} }, network),
		Broken: map[string]func(t *testing.T) filters.Step{
			"nobody there": func(t *testing.T) filters.Step { return scanner(t, Config{}, "unix:/nonexistent").Step() },
			"hangs up":     with(func() *fakeClamd { return &fakeClamd{} }, network),
			"nonsense":     with(func() *fakeClamd { return &fakeClamd{reply: "garbage\x00"} }, network),
			"an error":     with(func() *fakeClamd { return &fakeClamd{reply: object + ": Can't allocate memory ERROR\x00"} }, network),
		},
		Prepare: inside,
	})
}
