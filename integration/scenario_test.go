package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"gatepost/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite what the scenarios expect to be delivered")

// A scenario is a txtar file:
//
//	-- with --        servers it needs: clamd, spamd; "no clamd" is one that is down
//	-- config --      keys on top of the usual configuration, as TOML
//	-- next --        what the next hop answers, once each: RCPT 550 5.1.1 no
//	-- dialogue --    C: what the client sends; C: @name sends that file as the
//	                  message; S: how the reply begins
//	-- dialogue milter --
//	                  the same where an MTA that asks us talks otherwise; O: how
//	                  a reply begins that is its own
//	-- delivered --   what arrives through the proxy, one section for each
//	                  message in the order of their bytes; IDs, dates and ports
//	                  have place holders
//	-- held --        "RECIPIENTS: REASON" of each message that is held
//	-- log --         texts that the log has
//	-- any name --    a message, or a file that the configuration names as
//	                  $DIR/name; @EICAR@ and the like are filled in
//
// It is played through both entries, and the outcome is compared in same.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	needRoot(t)
	dir := testkit.Dir(t)
	all := &neighbours{clamd: testkit.Up(t, testkit.NewClamd(dir)), spamd: testkit.Up(t, testkit.NewSpamd(dir))}
	var sinks []*testkit.Sink
	all.postfix, sinks = newDoors(t, len(files))
	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			proxied := play(t, "proxy", throughProxy, scenario{archive: archive, servers: all, sink: testkit.Up(t, testkit.NewSink())})
			if *update {
				rewrite(t, file, archive, proxied)
				return
			}
			want := outcome{delivered: sections(archive, "delivered"), held: lines(archive, "held")}
			proxied.compare(t, want)
			play(t, "milter", throughMilter, scenario{archive: archive, servers: all, sink: sinks[i], door: all.postfix.Doors[i]}).same(t, proxied)
		})
	}
}

// neighbours are shared by all scenarios.
type neighbours struct {
	clamd   *testkit.Clamd
	spamd   *testkit.Spamd
	postfix *testkit.MilterPostfix
}

type scenario struct {
	*testing.T
	archive *txtar.Archive
	entry   string
	servers *neighbours
	door    testkit.Door // of the Postfix
	sink    *testkit.Sink
	gateway *testkit.Gateway
}

// play starts all that is needed, speaks the dialogue through an entry, and
// returns what became of it.
func play(t *testing.T, name string, through entry, s scenario) (o outcome) {
	t.Run(name, func(t *testing.T) {
		s.T, s.entry = t, name
		for _, line := range lines(s.archive, "next") {
			verb, answer, _ := strings.Cut(line, " ")
			s.sink.Script(verb, answer)
		}
		s.gateway = newGateway(t, binaries.race, s.sink.Addr)
		for _, server := range lines(s.archive, "with") {
			switch server {
			case "clamd":
				s.gateway.UseClamd("unix:"+s.servers.clamd.Socket, "tempfail")
			case "no clamd":
				s.gateway.UseClamd("unix:"+filepath.Join(s.gateway.Dir, "nobody"), "tempfail")
			case "spamd":
				s.gateway.UseSpamd("tcp:"+s.servers.spamd.Addr, "tempfail")
			default:
				t.Fatalf("unknown server %q", server)
			}
		}
		s.configure()
		address, idle := through(&s)
		o.replies = s.speak(address)
		testkit.Eventually(t, 60*time.Second, "nothing on its way", idle)
		for _, text := range lines(s.archive, "log") {
			testkit.Eventually(t, 60*time.Second, fmt.Sprintf("%q in the log", text), func() bool {
				return strings.Contains(s.gateway.Log(), text)
			})
		}
		o.delivered, o.held, o.actions = s.arrived(), s.held(), s.decided()
	})
	return o
}

// sections returns all files of that name.
func sections(archive *txtar.Archive, name string) []string {
	var all []string
	for _, f := range archive.Files {
		if f.Name == name {
			all = append(all, string(f.Data))
		}
	}
	return all
}

// lines are those of all sections of that name that say something.
func lines(archive *txtar.Archive, name string) []string {
	var all []string
	for _, text := range sections(archive, name) {
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, "\r\n"); line != "" && !strings.HasPrefix(line, "#") {
				all = append(all, line)
			}
		}
	}
	return all
}

func (s *scenario) configure() {
	dir := filepath.Join(s.gateway.Dir, "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	for _, f := range s.archive.Files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.Name)), f.Data, 0o644); err != nil {
			s.Fatal(err)
		}
	}
	section := ""
	for _, line := range lines(s.archive, "config") {
		line = strings.ReplaceAll(strings.ReplaceAll(line, "$DIR", dir), "$NEXT", s.sink.Addr)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok {
			s.Fatalf("config: %q is no key = value", line)
		}
		s.gateway.Config.Set(section, key, value)
	}
}

// speak holds the dialogue and returns the replies.
func (s *scenario) speak(address string) (replies []testkit.Reply) {
	dialogue := lines(s.archive, "dialogue")
	if own := lines(s.archive, "dialogue "+s.entry); len(own) > 0 {
		dialogue = own
	}
	c, err := testkit.Dial(address)
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	sent := "(connect)"
	if who, _, _ := strings.Cut(dialogue[0], ": "); who == "C" {
		dialogue = append([]string{"S: 220"}, dialogue...)
	}
	for _, line := range dialogue {
		who, what, _ := strings.Cut(line, ": ")
		switch who {
		case "C":
			sent, err = what, c.Write(s.expand(what))
			if err != nil {
				s.Fatal(err)
			}
		case "S", "O":
			r, err := c.Read()
			if err != nil {
				s.Fatalf("%s: want %s: %v", sent, what, err)
			}
			if !strings.HasPrefix(r.String(), what) {
				s.Fatalf("%s: got %v, want %s…", sent, r, what)
			}
			if who == "S" {
				replies = append(replies, r)
			}
		default:
			s.Fatalf("dialogue: %q", line)
		}
	}
	return replies
}

// expand is what the client sends: a line, or a message with its end.
func (s *scenario) expand(what string) string {
	name, ok := strings.CutPrefix(what, "@")
	if !ok {
		return what + "\r\n"
	}
	texts := sections(s.archive, name)
	if len(texts) != 1 {
		s.Fatalf("%d sections %q, want one", len(texts), name)
	}
	return string(testkit.Stuff(testkit.Expand([]byte(texts[0])))) + ".\r\n"
}

var variable = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b[0-9B-DF-HJ-NP-TV-XZb-df-hj-np-tv-xz]{22}\b`), "ID"},
	{regexp.MustCompile(`[A-Z][a-z]{2},\s+\d{1,2}\s+[A-Z][a-z]{2}\s+\d{4}\s+\d{2}:\d{2}:\d{2}\s+[+-]\d{4}`), "DATE"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`SIZE=\d+`), "SIZE=N"},
	// SpamAssassin's rules change, and their order from run to run.
	{regexp.MustCompile(`score=-?[0-9.]+`), "score=N"},
	{regexp.MustCompile(`spam score -?[0-9.]+`), "spam score N"},
	{regexp.MustCompile(`X-Spam-Score: -?[0-9.]+`), "X-Spam-Score: N"},
	{regexp.MustCompile(`\s+tests=[A-Z0-9_,\s]+\r\n\b`), " tests=RULES\r\n"},
}

// normalise makes a message comparable: what differs from run to run gets a
// place holder, and CRLF becomes LF.
func normalise(s string) string {
	for _, v := range variable {
		s = v.what.ReplaceAllString(s, v.name)
	}
	return strings.NewReplacer("\r\n", "\n", testkit.GTUBE(), "@GTUBE@", testkit.EICAR(), "@EICAR@").Replace(s)
}

// rewrite puts what became of the mail into the scenario's file.
func rewrite(t *testing.T, file string, archive *txtar.Archive, got outcome) {
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "delivered" || f.Name == "held" })
	for _, text := range got.delivered {
		archive.Files = append(archive.Files, txtar.File{Name: "delivered", Data: []byte(text)})
	}
	if len(got.held) > 0 {
		archive.Files = append(archive.Files, txtar.File{Name: "held", Data: []byte(strings.Join(got.held, "\n") + "\n")})
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
