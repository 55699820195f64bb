package child_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"

	dj "github.com/d--j/go-milter"
)

// djChild is a milter on d--j's server that gives one answer at one stage.
type djChild struct {
	dj.NoOpMilter
	at     mail.Stage
	where  string // within StageMessage
	answer *dj.Response
	edit   func(dj.Modifier) error
}

func (c *djChild) say(at mail.Stage, where string) (*dj.Response, error) {
	if c.at == at && c.where == where {
		return c.answer, nil
	}
	return dj.RespContinue, nil
}

func (c *djChild) Connect(string, string, uint16, string, dj.Modifier) (*dj.Response, error) {
	return c.say(mail.StageConnect, "")
}
func (c *djChild) Helo(string, dj.Modifier) (*dj.Response, error) { return c.say(mail.StageHelo, "") }
func (c *djChild) MailFrom(string, string, dj.Modifier) (*dj.Response, error) {
	return c.say(mail.StageMail, "")
}
func (c *djChild) RcptTo(string, string, dj.Modifier) (*dj.Response, error) {
	return c.say(mail.StageRcpt, "")
}
func (c *djChild) Data(dj.Modifier) (*dj.Response, error) { return c.say(mail.StageData, "") }
func (c *djChild) Header(string, string, dj.Modifier) (*dj.Response, error) {
	return c.say(mail.StageMessage, "header")
}
func (c *djChild) Headers(dj.Modifier) (*dj.Response, error) { return c.say(mail.StageMessage, "eoh") }
func (c *djChild) BodyChunk([]byte, dj.Modifier) (*dj.Response, error) {
	return c.say(mail.StageMessage, "body")
}
func (c *djChild) EndOfMessage(m dj.Modifier) (*dj.Response, error) {
	if c.edit != nil {
		if err := c.edit(m); err != nil {
			return nil, err
		}
	}
	return c.say(mail.StageMessage, "end")
}

func djServe(t *testing.T, c *djChild) string {
	t.Helper()
	ln, err := net.Listen("unix", t.TempDir()+"/m")
	if err != nil {
		t.Fatal(err)
	}
	srv := dj.NewServer(dj.WithMilter(func() dj.Milter { return c }), dj.WithActions(dj.AllClientSupportedActionMasks), dj.WithProtocols(dj.OptSkip|dj.OptHeaderLeadingSpace))
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	return "unix:" + ln.Addr().String()
}

// d--j's server as a child: every answer at every stage is the verdict there.
func TestDJServerAsChild(t *testing.T) {
	words, err := dj.RejectWithCodeAndReason(550, "5.7.1 100% no\nreally")
	if err != nil {
		t.Fatal(err)
	}
	places := []struct {
		at    mail.Stage
		where string
	}{
		{mail.StageConnect, ""}, {mail.StageHelo, ""}, {mail.StageMail, ""}, {mail.StageRcpt, ""}, {mail.StageData, ""},
		{mail.StageMessage, "header"}, {mail.StageMessage, "eoh"}, {mail.StageMessage, "body"}, {mail.StageMessage, "end"},
	}
	for _, place := range places {
		for _, tt := range []struct {
			name   string
			answer *dj.Response
			action mail.Action
			reply  string
		}{
			{"continue", dj.RespContinue, mail.Accept, ""},
			{"accept", dj.RespAccept, mail.Accept, ""},
			{"skip", dj.RespSkip, mail.Accept, ""},
			{"reject", dj.RespReject, mail.Reject, ""},
			{"tempfail", dj.RespTempFail, mail.TempFail, ""},
			{"discard", dj.RespDiscard, mail.Discard, ""},
			{"reply", words, mail.Reject, "550 5.7.1 100% no really"},
		} {
			t.Run(strings.TrimSpace(place.at.String()+" "+place.where)+" "+tt.name, func(t *testing.T) {
				m, _ := multiplexer(t, named{"theirs", configFor(djServe(t, &djChild{at: place.at, where: place.where, answer: tt.answer}))})
				s := session(t, m)
				want(t, place.at.String(), s.until(place.at), tt.action, tt.reply)
			})
		}
	}
}

// Its changes come out in the message and the envelope.
func TestChangesOfDJServer(t *testing.T) {
	c := &djChild{at: mail.StageMessage, where: "end", answer: dj.RespAccept, edit: func(m dj.Modifier) error {
		for _, err := range []error{
			m.AddHeader("X-End", " 1"), m.InsertHeader(1, "X-In", " 2\n\tfolded"), m.ChangeHeader(1, "Subject", " new"), m.ChangeHeader(1, "From", ""),
			m.AddRecipient("n@x.example", "NOTIFY=NEVER"), m.DeleteRecipient("r@example.com"), m.ChangeFrom("s@x.example", "RET=HDRS"),
			m.ReplaceBody(strings.NewReader("new body\r\n")), m.Progress(),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}}
	m, _ := multiplexer(t, named{"theirs", configFor(djServe(t, c))})
	s := session(t, m)
	s.greet()
	for range 2 {
		v := s.send(plain)
		want(t, "message", v, mail.Accept, "")
		if got, want := s.outcome(v), "Received: ours\nX-In: 2\n\tfolded\nSubject: new\nX-End: 1\n\nnew body\n"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		env, _ := mail.Apply(s.tx.Envelope, s.tx.Message, v.Edits)
		if got, want := env.Sender.Path()+" "+strings.Join(env.Sender.Args, " "), "<s@x.example> RET=HDRS"; got != want {
			t.Errorf("sender %s, want %s", got, want)
		}
		if len(env.Recipients) != 1 || env.Recipients[0].Path() != "<n@x.example>" || strings.Join(env.Recipients[0].Args, " ") != "NOTIFY=NEVER" {
			t.Errorf("recipients %v", env.Recipients)
		}
	}
}
