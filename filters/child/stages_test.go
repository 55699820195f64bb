package child_test

import (
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/internal/mail"
	"gatepost/milter/wire"

	gomilter "github.com/emersion/go-milter"
)

// Everything that an MTA tells is told, once and in order, with the arguments.
func TestEveryStageIsPassedOn(t *testing.T) {
	c := newScript(t, nil)
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	want(t, "greet", s.greet(), mail.Accept, "")
	want(t, "mail", s.mail("a@example.net SIZE=100 BODY=8BITMIME"), mail.Accept, "")
	want(t, "rcpt", s.rcpt("r1@example.com NOTIFY=NEVER"), mail.Accept, "")
	want(t, "rcpt", s.rcpt("r2@example.com"), mail.Accept, "")
	v := s.data("From: a@example.net\nX-Fold: a\n\tb\nX-Spam-Flag: YES\n\nbody\n")
	want(t, "message", v, mail.Accept, "")
	got := strings.ReplaceAll(c.log("CHMRTLNBEAUK"), "; ", "\n")
	const wanted = `C client.example.net 4 192.0.2.1:4025
H helo.example.net
M <a@example.net> SIZE=100 BODY=8BITMIME
R <r1@example.com> NOTIFY=NEVER
R <r2@example.com>
T
L From= a@example.net
L X-Fold= a
	b
N
B 6
E`
	if got != wanted {
		t.Errorf("it saw\n%s\nwant\n%s", got, wanted)
	}
	s.h.Close()
	eventually(t, "QUIT", func() bool { return strings.HasSuffix(c.log("EQ"), "E; Q") })
}

func TestMacros(t *testing.T) {
	c := newScript(t, nil)
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.base.User = "joe"
	s.base.TLS = &mail.TLS{Version: "TLSv1.3", Cipher: "AES"}
	s.greet()
	s.send("Message-ID: <1@x>\n" + plain)
	c.mu.Lock()
	got := strings.Join(c.macros, "\n") + "\n"
	c.mu.Unlock()
	for _, line := range []string{
		"C j=gw.example.org", "C _=client.example.net [192.0.2.1]", "C v=Gatepost 1.0", "C {daemon_name}=mx", "C {client_addr}=192.0.2.1",
		"C {client_name}=client.example.net", "C {client_port}=4025", "C {client_ptr}=client.example.net", "C {client_resolve}=OK",
		"H {tls_version}=TLSv1.3", "H {cipher}=AES", "M i=T1", "M {auth_authen}=joe", "M {mail_addr}=a@example.net", "M {mail_host}=example.net",
		"M r=ESMTP", "M s=helo.example.net", "R {rcpt_addr}=r@example.com", "R {rcpt_host}=example.com", "T i=T1", "N i=T1", "E i=T1", "E {msg_id}=<1@x>",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no macro %q in\n%s", line, got)
		}
	}

	// What it asks for is what it gets; the MTA's own values come first.
	d := newScript(t, nil)
	d.neg.Macros = map[gomilter.Stage][]string{gomilter.StageConnect: {"j", "{client_addr}", "{unknown}"}, gomilter.StageMailFrom: {"{mail_mailer}"}}
	m, _ = multiplexer(t, named{"d", d.config()})
	s = session(t, m)
	s.base.Via, s.base.Macros = mail.ViaMilter, map[string]string{"j": "mta.example", "mail_mailer": "local", "i": "Q1"}
	s.greet()
	s.send(plain)
	d.mu.Lock()
	got = strings.Join(d.macros, "; ")
	d.mu.Unlock()
	if wanted := "C j=mta.example; C {client_addr}=192.0.2.1; M {mail_mailer}=local; R i=Q1; "; !strings.HasPrefix(got, wanted) {
		t.Errorf("macros %q, want %q first", got, wanted)
	}
}

func TestIPv6AsSendmailWritesIt(t *testing.T) {
	c := newScript(t, nil)
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.base.Client, s.base.Name = mustAddrPort("[2001:db8::1]:25"), ""
	s.greet()
	if got, want := c.log("C"), "C [2001:db8::1] 6 [IPv6:2001:db8::1]:25"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A refusal acts where it is said, in the milter's words.
func TestRefusalsActAtTheirStage(t *testing.T) {
	words := reply("550-5.7.1 first 100%%\r\n550 5.7.1 second")
	const said = "550 5.7.1 first 100% second"
	for _, tt := range []struct {
		name, event string
		answer      []byte
		at          mail.Stage
		action      mail.Action
		reply       string
	}{
		{"connect", "C", words, mail.StageConnect, mail.Reject, said},
		{"connect, for now", "C", reply("421 4.7.0 later"), mail.StageConnect, mail.TempFail, "421 4.7.0 later"},
		{"helo", "H", words, mail.StageHelo, mail.Reject, said},
		{"mail", "M", words, mail.StageMail, mail.Reject, said},
		{"mail, for now", "M", tempfail, mail.StageMail, mail.TempFail, ""},
		{"rcpt", "R", reply("452 4.2.2 full"), mail.StageRcpt, mail.TempFail, "452 4.2.2 full"},
		{"data", "T", words, mail.StageData, mail.Reject, said},
		{"header", "L", words, mail.StageMessage, mail.Reject, said},
		{"end of header", "N", words, mail.StageMessage, mail.Reject, said},
		{"body", "B", words, mail.StageMessage, mail.Reject, said},
		{"end", "E", words, mail.StageMessage, mail.Reject, said},
		{"end, discard", "E", discard, mail.StageMessage, mail.Discard, ""},
		{"rcpt, discard", "R", discard, mail.StageRcpt, mail.Discard, ""},
		{"shutdown", "M", wire.Append(nil, '4'), mail.StageMail, mail.TempFail, "421 4.4.2 Service unavailable, closing connection"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newScript(t, at(tt.event, tt.answer))
			m, _ := multiplexer(t, named{"c", c.config()})
			s := session(t, m)
			want(t, tt.at.String(), s.until(tt.at), tt.action, tt.reply)
			if !strings.HasPrefix(s.found(), "c/child-") {
				t.Errorf("findings: %s", s.found())
			}
		})
	}
}

// until returns the verdict at a stage; all before must let the mail through.
func (s *smtp) until(at mail.Stage) mail.Verdict {
	s.t.Helper()
	steps := []func() mail.Verdict{
		func() mail.Verdict { s.tx.Stage = mail.StageConnect; return s.h.Connect(s.t.Context(), s.tx) },
		func() mail.Verdict { s.tx.Stage = mail.StageHelo; return s.h.Helo(s.t.Context(), s.tx) },
		func() mail.Verdict { return s.mail("a@example.net") },
		func() mail.Verdict { return s.rcpt("r@example.com") },
		func() mail.Verdict { s.tx.Stage = mail.StageData; return s.h.Data(s.t.Context(), s.tx) },
		func() mail.Verdict { return s.data(plain) },
	}
	for i, step := range steps {
		v := step()
		if i == int(at) {
			return v
		}
		if v.Action > mail.Accept {
			s.t.Fatalf("stage %d: %s %q", i, v.Action, v.Reply)
		}
	}
	return mail.Verdict{}
}

// A discard at an early stage is said again at the end, for those who can't
// act on it before.
func TestDiscardLasts(t *testing.T) {
	c := newScript(t, at("M", discard))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	want(t, "mail", s.mail("a@example.net"), mail.Discard, "")
	s.rcpt("r@example.com")
	want(t, "message", s.data(plain), mail.Discard, "")
	if got := c.log("RLE"); got != "" {
		t.Errorf("after its last word it was told %s", got)
	}
	c.does(nil)
	want(t, "second message", s.send(plain), mail.Accept, "")
}

func TestRefusedRecipientIsNotOfferedToOthers(t *testing.T) {
	c1, c2 := newScript(t, at("R <no@example.com>", reply("550 5.1.1 nobody"))), newScript(t, nil)
	beside := c1.config()
	beside.Changes = nil // it would run beside c2
	also := c2.config()
	also.Changes = nil
	for name, children := range map[string][]named{
		"sequential": {{"c1", c1.config()}, {"c2", c2.config()}},
		"parallel":   {{"c1", beside}, {"c2", also}},
	} {
		t.Run(name, func(t *testing.T) {
			c1.forget()
			c2.forget()
			m, _ := multiplexer(t, children...)
			s := session(t, m)
			s.greet()
			s.mail("a@example.net")
			want(t, "first", s.rcpt("one@example.com"), mail.Accept, "")
			want(t, "refused", s.rcpt("no@example.com"), mail.Reject, "550 5.1.1 nobody")
			want(t, "refused again", s.rcpt("no@example.com"), mail.Reject, "550 5.1.1 nobody")
			want(t, "last", s.rcpt("two@example.com"), mail.Accept, "")
			want(t, "message", s.data(plain), mail.Accept, "")
			if got, want := c2.log("R"), "R <one@example.com>; R <two@example.com>"; got != want {
				t.Errorf("c2 saw %q, want %q", got, want)
			}
		})
	}
}

// What the rules refuse no milter hears of.
func TestRulesComeFirst(t *testing.T) {
	c := newScript(t, nil)
	rules := policy{refuse: func(tx *mail.Transaction) mail.Verdict {
		if to := tx.Envelope.Recipients; tx.Stage == mail.StageRcpt && tx.Envelope.Sender.Local == "bad" && len(to) == 0 {
			return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: "relaying denied"}}
		}
		return mail.Verdict{}
	}}
	m, _ := multiplexerWith(t, rules, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	s.mail("bad@example.net")
	want(t, "rcpt", s.rcpt("r@example.org"), mail.Reject, "550 relaying denied")
	if got := c.log("R"); got != "" {
		t.Errorf("it saw %q", got)
	}
}

func TestAcceptRetires(t *testing.T) {
	for _, tt := range []struct {
		event         string
		first, second string // commands of either message
	}{
		{"C", "", ""},
		{"H", "", ""},
		{"M", "M A", "M A"},
		{"R", "M R A", "M R A"},
		{"L", "M R T L A", "M R T L A"},
		{"E", "M R T L L N B E", "M R T L L N B E"},
	} {
		t.Run(tt.event, func(t *testing.T) {
			c1, c2 := newScript(t, at(tt.event, accept)), newScript(t, at("E", reject))
			m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
			s := session(t, m)
			s.greet()
			c1.forget()
			for _, commands := range []string{tt.first, tt.second} {
				want(t, "c2 is still asked", s.send(plain), mail.Reject, "")
				var got []string
				eventually(t, commands, func() bool {
					got = got[:0]
					for _, e := range strings.Split(c1.log("MRTLNBEA"), "; ") {
						got = append(got, e[:min(len(e), 1)])
					}
					return strings.Join(got, " ") == commands
				})
				c1.forget()
			}
		})
	}
}

// SKIP ends the body, RSET the message, and a child that was not reached by the
// end of a message is told that it is over.
func TestSkipAndAbort(t *testing.T) {
	c := newScript(t, at("B", wire.Append(nil, 's')))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	v := s.send(plain[:len(plain)-5] + strings.Repeat("0123456789abcde\n", 20_000))
	want(t, "message", v, mail.Accept, "")
	if got := c.log("BE"); got != "B 65535; E" {
		t.Errorf("after SKIP: %q", got)
	}
	c.forget()
	s.mail("a@example.net")
	s.h.Abort(s.tx)
	eventually(t, "ABORT", func() bool { return c.log("MA") == "M <a@example.net>; A" })
	want(t, "message after RSET", s.send(plain), mail.Accept, "")

	first, behind := newScript(t, at("E", reject)), newScript(t, nil)
	m, _ = multiplexer(t, named{"first", first.config()}, named{"behind", behind.config()})
	s = session(t, m)
	s.greet()
	s.send(plain)
	eventually(t, "ABORT", func() bool {
		return behind.log("MRTLEA") == "M <a@example.net>; R <r@example.com>; T; A"
	})
}

func TestNegotiatedSilenceIsKept(t *testing.T) {
	c := newScript(t, nil)
	c.neg.Protocol |= gomilter.OptNoConnect | gomilter.OptNoHelo | gomilter.OptNoRcptReply | gomilter.OptNoBody
	m, _ := multiplexer(t, named{"c", c.config()})
	c.does(func(e string) []byte {
		if strings.HasPrefix(e, "R") {
			return []byte{}
		}
		return nil
	})
	s := session(t, m)
	s.greet()
	want(t, "message", s.send(plain), mail.Accept, "")
	if got, want := c.log("CHRBE"), "R <r@example.com>; E"; got != want {
		t.Errorf("it saw %q, want %q", got, want)
	}
}

func TestProgressWithinTheDeadline(t *testing.T) {
	c := newScript(t, at("E", join(wire.Append(nil, 'p'), wire.Append(nil, 'p'), reject)))
	m, _ := multiplexer(t, named{"c", c.config()})
	s := session(t, m)
	s.greet()
	want(t, "message", s.send(plain), mail.Reject, "")
}

func TestVotes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		vote   child.Vote
		answer []byte
		action mail.Action
		reply  string
		found  string
		header string // that must come out
	}{
		{"score below", child.Vote{Mode: child.Score, Score: 4}, reply("550 5.7.1 no"), mail.Accept, "", "c/child-reject=550 5.7.1 no", ""},
		{"score enough", child.Vote{Mode: child.Score, Score: 10}, tempfail, mail.Reject, "550 5.7.1 spam", "c/child-tempfail=tempfail", ""},
		{"score, quarantine", child.Vote{Mode: child.Score, Score: 10}, join(wire.AppendText(nil, 'q', "odd"), cont), mail.Reject, "550 5.7.1 spam", "c/child-quarantine=odd", ""},
		{"score keeps edits", child.Vote{Mode: child.Score, Score: 1}, join(add("X-C", " 1"), cont), mail.Accept, "", "", "X-C: 1\n"},
		{"quarantine", child.Vote{Mode: child.Enforce}, join(wire.AppendText(nil, 'q', "odd"), add("X-C", " 1"), cont), mail.Quarantine, "", "c/child-quarantine=odd", "X-C: 1\n"},
		{"quarantine, then refuse", child.Vote{Mode: child.Enforce}, join(wire.AppendText(nil, 'q', "odd"), reject), mail.Reject, "", "c/child-reject=reject", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newScript(t, at("E", tt.answer))
			cfg := c.config()
			cfg.Vote = tt.vote
			m, _ := multiplexer(t, named{"c", cfg})
			s := session(t, m)
			s.greet()
			v := s.send(plain)
			want(t, "message", v, tt.action, tt.reply)
			if s.found() != tt.found {
				t.Errorf("found %q, want %q", s.found(), tt.found)
			}
			if got := s.outcome(v); !strings.Contains(got, tt.header) {
				t.Errorf("no %q in\n%s", tt.header, got)
			}
		})
	}
}

// One recipient that a scoring milter refuses says nothing of the others.
func TestScoreOfRecipients(t *testing.T) {
	c := newScript(t, at("R <no@example.com>", reject))
	cfg := c.config()
	cfg.Vote = child.Vote{Mode: child.Score, Score: 10}
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	s.greet()
	s.mail("a@example.net")
	s.rcpt("no@example.com")
	s.rcpt("yes@example.com")
	want(t, "one of two", s.data(plain), mail.Accept, "")
	if got, want := s.found(), "c/child-refused-recipient=reject"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	s.mail("a@example.net")
	s.rcpt("no@example.com")
	want(t, "the only one", s.data(plain), mail.Reject, "550 5.7.1 spam")
}

func TestShadowRecordsOnly(t *testing.T) {
	c := newScript(t, func(e string) []byte {
		if e == "E" {
			return join(add("X-C", " 1"), reject)
		}
		return nil
	})
	other := newScript(t, nil)
	cfg := c.config()
	cfg.Vote = child.Vote{Mode: child.Shadow}
	m, log := multiplexer(t, named{"shadow", cfg}, named{"other", other.config()})
	other.does(func(e string) []byte {
		if e == "E" {
			eventually(t, "the shadow has spoken", func() bool { return strings.Contains(log.String(), "finding=child-reject") })
		}
		return nil
	})
	s := session(t, m)
	s.greet()
	v := s.send(plain)
	want(t, "message", v, mail.Accept, "")
	if got := s.outcome(v); strings.Contains(got, "X-C") {
		t.Errorf("the shadow changed the message:\n%s", got)
	}
	if got, want := s.found(), "shadow/child-reject=reject"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

// A shadow that comes late is only logged, and holds nobody up.
func TestShadowThatIsLate(t *testing.T) {
	release, whole := make(chan struct{}), make(chan struct{})
	c := newScript(t, nil)
	c.does(func(e string) []byte {
		if e == "E" {
			close(whole)
			<-release
			return reject
		}
		return nil
	})
	other := newScript(t, nil)
	cfg := c.config()
	cfg.Vote = child.Vote{Mode: child.Shadow}
	// Nobody answers before the shadow has the whole message.
	other.does(func(e string) []byte {
		if e == "E" {
			<-whole
		}
		return nil
	})
	m, log := multiplexer(t, named{"shadow", cfg}, named{"other", other.config()})
	s := session(t, m)
	s.greet()
	want(t, "message", s.send(plain), mail.Accept, "")
	if s.found() != "" {
		t.Errorf("found %q", s.found())
	}
	close(release)
	eventually(t, "the late word", func() bool { return strings.Contains(log.String(), "late=true") })
}

// A breaker spares the mail the timeout, and a ping brings the milter back.
func TestBreaker(t *testing.T) {
	c := newScript(t, at("E", closing))
	cfg := c.config()
	cfg.OnError = filters.Continue
	m, log := multiplexer(t, named{"c", cfg})
	for range 3 {
		s := session(t, m)
		s.greet()
		want(t, "message", s.send(plain), mail.Accept, "")
		if !strings.HasPrefix(s.found(), "c/failed=continue") {
			t.Errorf("found %q", s.found())
		}
	}
	if !strings.Contains(log.String(), "filter is down") {
		t.Fatalf("the breaker did not trip:\n%s", log)
	}
	before := c.connections()
	s := session(t, m)
	s.greet()
	s.send(plain)
	if got := c.connections(); got != before {
		t.Errorf("a milter that is down was asked")
	}
	c.does(nil)
	f, err := child.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}

// What a scoring milter says of the client counts for each of its messages;
// another HELO is another question.
func TestWhatIsSaidOfTheSession(t *testing.T) {
	c := newScript(t, at("C", reject))
	cfg := c.config()
	cfg.Vote = child.Vote{Mode: child.Score, Score: 10}
	m, _ := multiplexer(t, named{"c", cfg})
	s := session(t, m)
	want(t, "greet", s.greet(), mail.Accept, "")
	for range 2 {
		want(t, "message", s.send(plain), mail.Reject, "550 5.7.1 spam")
		if got, want := s.found(), "c/child-reject=reject"; got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}

	c = newScript(t, at("H bad.example", reject))
	m, _ = multiplexer(t, named{"c", c.config()})
	s = session(t, m)
	s.base.Helo = "bad.example"
	want(t, "bad HELO", s.greet(), mail.Reject, "")
	s.base.Helo = "good.example"
	s.tx.Stage = mail.StageHelo
	want(t, "good HELO", s.h.Helo(t.Context(), s.tx), mail.Accept, "")
	want(t, "message", s.send(plain), mail.Accept, "")
}
