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
//	-- with --        servers it needs: clamd, spamd
//	-- config --      keys on top of the usual configuration, as TOML
//	-- next --        what the next hop answers, once each: RCPT 550 5.1.1 no
//	-- dialogue --    C: what the client sends; C: @name sends that file as the
//	                  message; S: how the reply begins
//	-- delivered --   what arrives, one section for each message in the order of
//	                  their bytes; IDs, dates and ports have place holders
//	-- log --         texts that the log has
//	-- any name --    a message, or a file that the configuration names as
//	                  $DIR/name; @EICAR@ and the like are filled in
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{T: t, archive: archive}
			got := s.play()
			if *update {
				s.rewrite(file, got)
				return
			}
			want := s.sections("delivered")
			if !slices.Equal(got, want) {
				t.Errorf("delivered:\n%s\nwant:\n%s", strings.Join(got, "=====\n"), strings.Join(want, "=====\n"))
			}
		})
	}
}

type scenario struct {
	*testing.T
	archive *txtar.Archive
	sink    *testkit.Sink
	gateway *testkit.Gateway
}

// sections returns all files of that name.
func (s *scenario) sections(name string) []string {
	var all []string
	for _, f := range s.archive.Files {
		if f.Name == name {
			all = append(all, string(f.Data))
		}
	}
	return all
}

// lines are those of all sections of that name that say something.
func (s *scenario) lines(name string) []string {
	var all []string
	for _, text := range s.sections(name) {
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, "\r\n"); line != "" && !strings.HasPrefix(line, "#") {
				all = append(all, line)
			}
		}
	}
	return all
}

// play starts all that is needed, speaks the dialogue, and returns what
// arrived.
func (s *scenario) play() []string {
	s.sink = testkit.Up(s.T, testkit.NewSink())
	for _, line := range s.lines("next") {
		verb, answer, _ := strings.Cut(line, " ")
		s.sink.Script(verb, answer)
	}
	s.gateway = newGateway(s.T, binaries.race, s.sink.Addr)
	for _, server := range s.lines("with") {
		switch server {
		case "clamd":
			s.gateway.UseClamd("unix:"+testkit.Up(s.T, testkit.NewClamd(testkit.Dir(s.T))).Socket, "tempfail")
		case "spamd":
			s.gateway.UseSpamd("tcp:"+testkit.Up(s.T, testkit.NewSpamd(testkit.Dir(s.T))).Addr, "tempfail")
		default:
			s.Fatalf("unknown server %q", server)
		}
	}
	s.configure()
	testkit.Up(s.T, s.gateway)
	expected := s.speak()
	for _, text := range s.lines("log") {
		testkit.Eventually(s.T, 5*time.Second, fmt.Sprintf("%q in the log", text), func() bool {
			return strings.Contains(s.gateway.Log(), text)
		})
	}
	return s.arrived(expected)
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
	for _, line := range s.lines("config") {
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

// speak holds the dialogue and returns how many messages were accepted.
func (s *scenario) speak() (accepted int) {
	var d *testkit.Dialog
	var sent string
	afterMessage := false
	for _, line := range s.lines("dialogue") {
		who, what, _ := strings.Cut(line, ": ")
		switch {
		case who == "C" && strings.HasPrefix(what, "@"):
			sections := s.sections(what[1:])
			if len(sections) != 1 {
				s.Fatalf("%d sections %q, want one", len(sections), what[1:])
			}
			d.Send(string(testkit.Stuff(testkit.Expand([]byte(sections[0])))) + ".\r\n")
			sent, afterMessage = what, true
		case who == "C":
			if d == nil {
				d = testkit.Connect(s.T, s.gateway.Addr)
			}
			d.Send(what + "\r\n")
			sent, afterMessage = what, false
		case who == "S":
			r, err := d.Read()
			if err != nil {
				s.Fatalf("%s: want %s: %v", sent, what, err)
			}
			if !strings.HasPrefix(r.String(), what) {
				s.Fatalf("%s: got %v, want %s…", sent, r, what)
			}
			if afterMessage && r.Code == 250 {
				accepted++
			}
		default:
			s.Fatalf("dialogue: %q", line)
		}
	}
	return accepted
}

// arrived waits until nothing is on its way any more.
func (s *scenario) arrived(accepted int) []string {
	testkit.Eventually(s.T, 20*time.Second, "nothing on its way", func() bool {
		return len(inState(s.T, s.gateway, "queue"))+len(inState(s.T, s.gateway, "slow")) == 0
	})
	var all []string
	for _, m := range s.sink.Mails() {
		envelope := fmt.Sprintf("MAIL FROM:%s\r\nRCPT TO:%s\r\n\r\n", m.From, strings.Join(m.To, "\r\nRCPT TO:"))
		all = append(all, normalise(envelope+string(m.Data)))
	}
	slices.Sort(all)
	if accepted == 0 && len(all) > 0 {
		s.Errorf("%d messages arrived, none was accepted", len(all))
	}
	return all
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
	{regexp.MustCompile(`X-Spam-Score: -?[0-9.]+`), "X-Spam-Score: N"},
	{regexp.MustCompile(`\s+tests=[A-Z0-9_,\s]+\r\n\b`), " tests=RULES\r\n"},
}

// normalise makes a message comparable: what differs from run to run gets a
// place holder, and CRLF becomes LF.
func normalise(s string) string {
	for _, v := range variable {
		s = v.what.ReplaceAllString(s, v.name)
	}
	return strings.ReplaceAll(s, "\r\n", "\n")
}

// rewrite puts what was delivered into the scenario's file.
func (s *scenario) rewrite(file string, got []string) {
	s.archive.Files = slices.DeleteFunc(s.archive.Files, func(f txtar.File) bool { return f.Name == "delivered" })
	for _, text := range got {
		s.archive.Files = append(s.archive.Files, txtar.File{Name: "delivered", Data: []byte(text)})
	}
	if err := os.WriteFile(file, txtar.Format(s.archive), 0o644); err != nil {
		s.Fatal(err)
	}
}
