package integration

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// notificationRow is a message and what its sender hears.
type notificationRow struct {
	name   string
	from   string
	args   string   // of MAIL
	to     []string // with parameters behind a blank
	data   []byte
	action string
	status string // of the first recipient
	back   string // the type of the third part
	bounce bool   // that the parser takes it for a bounce
	says   []string
}

func notificationRows() []notificationRow {
	small := testkit.Message("small", "gr\u00fc\u00dfe", "small, and eight bits: \u00e9")
	return []notificationRow{
		{"nobody of that name", "sender@sender.test", "RET=FULL ENVID=case+2B17", []string{"gone@example.com ORCPT=rfc822;old+2Bgone@example.org"}, small,
			"failed", "5.1.1", "message/rfc822", true,
			[]string{"Original-Envelope-Id: case+17", "Original-Recipient: rfc822; old+gone@example.org", "nobody of that name"}},
		{"two of three", "sender@sender.test", "RET=HDRS", []string{"gone@example.com", "ok@example.com", "full@example.com"}, small,
			"failed", "5.1.1", "text/rfc822-headers", true, []string{"gone@example.com", "full@example.com", "5.2.2"}},
		{"too large to be returned", "sender@sender.test", "", []string{"gone@example.com"}, testkit.Message("large", "large", testkit.Filler(300_000)),
			"failed", "5.1.1", "text/rfc822-headers", true, nil},
		{"sender and subject in UTF-8", "j\u00fcrgen@sender.test", "SMTPUTF8", []string{"gone-\u00e4@example.com"}, small,
			"failed", "5.1.1", "message/global", true, []string{"gone-\u00e4@example.com"}},
		{"delivered, and asked for", "sender@sender.test", "", []string{"ok@example.com NOTIFY=SUCCESS"}, small,
			"relayed", "2.0.0", "text/rfc822-headers", false, nil},
		{"late", "sender@sender.test", "", []string{"late@example.com"}, small,
			"delayed", "4.2.0", "text/rfc822-headers", false, []string{"Will-Retry-Until: "}},
	}
}

// What senders are told is understood by a strict reader of RFC 3464 and by a
// parser that mailing lists use, and says in plain words what is the matter.
func TestNotifications(t *testing.T) {
	for _, row := range notificationRows() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dsn := notification(t, row)
			if testing.Verbose() {
				t.Logf("%s", dsn)
			}
			text, recipients := readReport(t, dsn, row.back)
			if got := recipients[0]; got["Action"] != row.action || got["Status"] != row.status {
				t.Errorf("%s %s, want %s %s", got["Action"], got["Status"], row.action, row.status)
			}
			for _, r := range recipients {
				_, address, _ := strings.Cut(r["Final-Recipient"], ";")
				// RFC 6533 section 3 writes it so where only ASCII may stand.
				address = strings.TrimSpace(strings.ReplaceAll(address, `\x{E4}`, "\u00e4"))
				if !strings.Contains(text, address) {
					t.Errorf("the text does not name %s:\n%s", address, text)
				}
			}
			for _, want := range row.says {
				if !bytes.Contains(dsn, []byte(want)) {
					t.Errorf("no %q in\n%s", want, dsn)
				}
			}
			parsed(t, dsn, row, recipients)
		})
	}
}

// notification is what the sender of a row gets.
func notification(t *testing.T, row notificationRow) []byte {
	t.Helper()
	hop, senders := testkit.NewSink(), testkit.Up(t, testkit.NewSink())
	hop.Offer = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 200000000"} // no DSN
	hop.Rule = func(verb, arg string) string {
		switch {
		case verb == "RCPT" && strings.Contains(arg, "<gone"):
			return "550 5.1.1 nobody of that name"
		case verb == "RCPT" && strings.Contains(arg, "<full"):
			return "552-5.2.2 the mailbox is full,\n552 5.2.2 and nobody reads it"
		case verb == "RCPT" && strings.Contains(arg, "<late"):
			return "451 4.2.0 come again"
		}
		return ""
	}
	testkit.Up(t, hop)
	g := newGateway(t, binaries.race, hop.Addr)
	g.Config.Set(`route."sender.test"`, "to", `["smtp://`+senders.Addr+`"]`)
	g.Config.Set("queue", "delay_warning", `"1ms"`)
	testkit.Up(t, g)
	c, err := testkit.DialFrom("127.0.0.9", g.Addr) // one of ours
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(); err != nil {
		t.Fatal(err)
	}
	for _, line := range slices.Concat([]string{"EHLO client.test", "MAIL FROM:<" + row.from + "> " + row.args}, rcptLines(row.to), []string{"DATA"}) {
		if r, err := c.Cmd(strings.TrimSpace(line)); err != nil || r.Code >= 400 {
			t.Fatal(line, r, err)
		}
	}
	if r, err := c.Cmd(string(testkit.Stuff(row.data)) + "."); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	m := waitMails(t, senders, 1)[0]
	if !strings.HasPrefix(m.From, "<>") || len(m.To) != 1 || !strings.HasPrefix(m.To[0], "<"+row.from+">") {
		t.Errorf("from %q to %q", m.From, m.To)
	}
	return m.Data
}

func rcptLines(to []string) (lines []string) {
	for _, to := range to {
		address, args, _ := strings.Cut(to, " ")
		lines = append(lines, "RCPT TO:<"+address+"> "+args)
	}
	return lines
}

// parsed compares what the other parser makes of a notification.
func parsed(t *testing.T, dsn []byte, row notificationRow, recipients []map[string]string) {
	t.Helper()
	b, err := testkit.ParseBounce(dsn)
	testkit.Need(t, err)
	if b.IsBounce != row.bounce {
		t.Fatalf("the parser takes it for a bounce: %v", b.IsBounce)
	}
	if !row.bounce || row.back == "message/global" { // of which it does not know
		return
	}
	if id := field(string(row.data), "Message-ID"); b.MessageID != id {
		t.Errorf("the parser finds %q, not %q", b.MessageID, id)
	}
	if len(b.Reports) != len(recipients) {
		t.Fatalf("the parser finds %d recipients: %q", len(b.Reports), b.Reports)
	}
	for i, r := range b.Reports {
		_, address, _ := strings.Cut(cmp.Or(recipients[i]["Original-Recipient"], recipients[i]["Final-Recipient"]), "; ")
		if r["email"] != address || r["smtp_code"] == "" || r["std_reason"] == "unknown" {
			t.Errorf("the parser reads %q", r)
		}
	}
}

// Fields of RFC 3464, and what their values look like.
func reportFields() (message, recipient map[string]*regexp.Regexp) {
	date := regexp.MustCompile(`^\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$`)
	name := regexp.MustCompile(`^dns; ?\S+$`)
	address := regexp.MustCompile(`^(rfc822|utf-8); ?\S+@\S+$`)
	message = map[string]*regexp.Regexp{
		"Original-Envelope-Id": regexp.MustCompile(`^\S+$`), "Reporting-MTA": name, "Received-From-MTA": name, "Arrival-Date": date,
		"X-Gatepost-ID": regexp.MustCompile(`^\w+$`),
	}
	recipient = map[string]*regexp.Regexp{
		"Original-Recipient": address, "Final-Recipient": address, "Action": regexp.MustCompile(`^(failed|delayed|delivered|relayed|expanded)$`),
		"Status": regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}$`), "Remote-MTA": name, "Diagnostic-Code": regexp.MustCompile(`^smtp; ?[245]\d\d[ -]`),
		"Last-Attempt-Date": date, "Will-Retry-Until": date,
	}
	return message, recipient
}

// readReport reads a notification as RFC 3462 and 3464 (and 6533) have it, and
// forgives nothing. It returns the text for people and the fields of each
// recipient.
func readReport(t *testing.T, data []byte, back string) (text string, recipients []map[string]string) {
	t.Helper()
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || len(line) > 1000 || bytes.IndexByte(line[:len(line)-2], '\r') >= 0 {
			t.Errorf("a line that none may be: %.100q", line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Auto-Submitted"} {
		if n := len(m.Header[name]); n != 1 {
			t.Errorf("%d fields %s", n, name)
		}
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	if _, err := m.Header.AddressList("From"); err != nil {
		t.Error(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %q %v", kind, params, err)
	}
	parts := reportParts(t, multipart.NewReader(m.Body, params["boundary"]))
	for i, want := range []string{"text/plain", "message/delivery-status", back} {
		if got, _, _ := mime.ParseMediaType(parts[i].header.Get("Content-Type")); got != want {
			t.Errorf("part %d is %s, want %s", i+1, got, want)
		}
	}
	if encoding := parts[1].header.Get("Content-Transfer-Encoding"); encoding != "" && encoding != "7bit" {
		t.Errorf("the status is encoded: %q", parts[1].header)
	}
	return parts[0].text, readStatus(t, parts[1].text)
}

type reportPart struct {
	header textproto.MIMEHeader
	text   string
}

func reportParts(t *testing.T, r *multipart.Reader) (parts []reportPart) {
	t.Helper()
	for {
		p, err := r.NextPart() // decodes quoted-printable
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, reportPart{p.Header, string(b)})
	}
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3", len(parts))
	}
	return parts
}

func readStatus(t *testing.T, text string) (recipients []map[string]string) {
	t.Helper()
	ofMessage, ofRecipient := reportFields()
	for i, block := range strings.Split(strings.TrimSuffix(text, "\r\n\r\n"), "\r\n\r\n") {
		known, required := ofRecipient, []string{"Final-Recipient", "Action", "Status"}
		if i == 0 {
			known, required = ofMessage, []string{"Reporting-MTA"}
		}
		got := map[string]string{}
		for line := range strings.SplitSeq(strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(strings.TrimSuffix(block, "\r\n")), "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			form, ok := known[name]
			if _, twice := got[name]; !ok || twice || !form.MatchString(value) {
				t.Errorf("block %d: %q", i, line)
			}
			if strings.ContainsFunc(value, func(r rune) bool { return r > '~' || r < ' ' }) {
				t.Errorf("not ASCII: %q", line)
			}
			got[name] = value
		}
		for _, name := range required {
			if got[name] == "" {
				t.Errorf("block %d has no %s: %q", i, name, slices.Sorted(maps.Keys(got)))
			}
		}
		if i > 0 {
			if err := actionFits(got); err != nil {
				t.Error(err)
			}
			recipients = append(recipients, got)
		}
	}
	if len(recipients) == 0 {
		t.Fatalf("no recipients in\n%s", text)
	}
	return recipients
}

// actionFits: what is said in two ways is the same.
func actionFits(r map[string]string) error {
	class := map[string]string{"failed": "5", "delayed": "4", "relayed": "2", "delivered": "2", "expanded": "2"}[r["Action"]]
	if !strings.HasPrefix(r["Status"], class) || r["Action"] != "delayed" && r["Will-Retry-Until"] != "" {
		return fmt.Errorf("%q does not fit itself", r)
	}
	return nil
}
