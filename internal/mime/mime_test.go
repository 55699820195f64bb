package mime

import (
	"context"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// message makes a message of text with LF line ends.
func message(t testing.TB, text string) *mail.Message {
	t.Helper()
	return rawMessage(t, strings.ReplaceAll(text, "\n", "\r\n"))
}

func rawMessage(t testing.TB, raw string) *mail.Message {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func inspect(t testing.TB, m *mail.Message) *mail.Inside {
	t.Helper()
	return Inspect(context.Background(), m, DefaultConfig())
}

func TestX(t *testing.T) {
	in := inspect(t, message(t, `From: a@b
Content-Type: multipart/mixed; boundary="abc"

This is multi-part
--abc
Content-Type: multipart/alternative; boundary=def

--def
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Hello=20w=C3=B6rld, see http://EXAMPLE.com/x?y.
--def
Content-Type: text/html

<p>Hello <a href="https://user@www.ex&auml;mple.org:80/p">x</a></p>
--def--

--abc
Content-Type: application/octet-stream; name="=?utf-8?q?inv=2Eexe?="
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename*=utf-8''inv%2Eexe

TVqQAAMAAAAEAAAA//8AALgAAAAAAAAAQAAAAAAAAAAA
--abc
Content-Type: message/rfc822

Subject: inner

begin 644 x.exe
#0V%T
`+"`"+`
end
--abc--
`))
	for _, p := range in.Parts {
		t.Logf("%+v", p)
	}
	t.Logf("%q %q %q %v", in.Ambiguous, in.Unseen, in.Text, in.URLs)
}
