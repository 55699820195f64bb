package integration

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/testkit"
)

// attachmentLists have one list for each action, each for one recipient.
const attachmentLists = `[
 {name="strip", standard=true, action="strip", recipients=["strip@example.com"]},
 {name="reject", standard=true, recipients=["reject@example.com"]},
 {name="hold", standard=true, action="quarantine", recipients=["hold@example.com"]},
 {name="rename", standard=true, action="rename", recipients=["rename@example.com"]},
 {name="tag", standard=true, action="tag", recipients=["tag@example.com"]},
]`

// attachmentDoor is a way into a gateway with attachment lists.
type attachmentDoor struct {
	name    string
	gateway *testkit.Gateway
	sink    *testkit.Sink
	address string
}

// attachmentDoors are a gateway that clients speak to, and one that a Postfix
// asks.
func attachmentDoors(t *testing.T) []attachmentDoor {
	t.Helper()
	needRoot(t)
	var all []attachmentDoor
	for _, name := range []string{"proxy", "milter"} {
		d := attachmentDoor{name: name, sink: testkit.Up(t, testkit.NewSink())}
		d.gateway = newGateway(t, binaries.race, d.sink.Addr)
		c := &d.gateway.Config
		c.Set("filter.attachments", "deny", attachmentLists)
		c.Set("filter.attachments", "allow", `[{name="protector", types=["images", "office", "text", "application/zip"], action="strip", recipients=["allow@example.com"]}]`)
		c.Set("subject", "attachments", `"[FILE]"`)
		c.Set("text.banner", "text", `"This is from outside.\nSch\u00f6ne Gr\u00fc\u00dfe"`)
		c.Set("text.banner", "domains", `["banner.example"]`)
		c.Set("text.footer.inside", "text", `"Ours Ltd."`)
		c.Set("text.footer.inside", "senders", `["ours.example"]`)
		c.Set("text.footer.inside", "inside", "true")
		c.Set("relay", "domains", `["example.com", "banner.example"]`)
		c.Set(`route."banner.example"`, "to", fmt.Sprintf(`["smtp://%s"]`, d.sink.Addr))
		if name == "milter" {
			socket := milterSocket(t, d.gateway, "unix")
			c.Set("milter.main", "quarantine", `"hold"`)
			c.Set("milter.main", "reinject", fmt.Sprintf("%q", "smtp://"+d.sink.Addr))
			testkit.Up(t, d.gateway)
			mta := testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), d.sink.Addr, "unix:"+socket, "relay_domains = example.com, banner.example",
				"local_header_rewrite_clients =", fmt.Sprintf("transport_maps = inline:{ { example.com = smtp:[127.0.0.1]:%[1]s }, { banner.example = smtp:[127.0.0.1]:%[1]s } }", testkit.Port(d.sink.Addr))))
			d.address = mta.Addr
		} else {
			d.address = testkit.Up(t, d.gateway).Addr
		}
		all = append(all, d)
	}
	return all
}

// passes sends a message and returns what the next hop gets.
func (d attachmentDoor) passes(t *testing.T, data []byte, to ...string) []testkit.Mail {
	t.Helper()
	before := len(d.sink.Mails())
	sendWant(t, d.address, testkit.Letter{From: "s@sender.test", To: to, Data: data}, testkit.Dot, 250)
	var got []testkit.Mail
	testkit.Eventually(t, 60*time.Second, "the message arrives", func() bool {
		got = d.sink.Mails()[before:]
		n := 0
		for _, m := range got {
			n += len(m.To)
		}
		return n == len(to)
	})
	return got
}

var (
	program = append([]byte("MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00"), bytes.Repeat([]byte("\x00\x01\x02program "), 40)...)
	picture = append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"), bytes.Repeat([]byte{7, 3, 9}, 100)...)
)

func wrapped(content []byte) string {
	text := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	for len(text) > 0 {
		n := min(60, len(text)) // not the 76 that we would write
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.String()
}

// papers is a message with a text, a file of that name, and a picture.
func papers(name string, content []byte) []byte {
	return []byte("From: Sender <s@sender.test>\r\nTo: u@example.com\r\nSubject: papers\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n" +
		"Message-ID: <papers@sender.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_1\"\r\n\r\nnobody reads this\r\n" +
		"--=_1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSee below.\r\n" +
		"--=_1\r\nContent-Type: application/octet-stream;\r\n name=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n filename=\"" + name + "\"\r\n\r\n" + wrapped(content) +
		"--=_1\r\nContent-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(picture) + "\r\n--=_1--\r\n")
}

// pyPart is a part as Python's email package sees it.
type pyPart struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Content []byte `json:"content"` // decoded
}

const pyScript = `
import sys, json, base64, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
out = []
for p in m.walk():
    if not p.is_multipart():
        out.append({"type": p.get_content_type(), "name": p.get_filename() or "", "content": base64.b64encode(p.get_payload(decode=True)).decode()})
json.dump({"subject": m["Subject"], "parts": out, "defects": [str(d) for p in m.walk() for d in p.defects]}, sys.stdout)
`

// python takes a message apart with Python's email package, which must have
// nothing to complain of.
func python(t *testing.T, data []byte) (subject string, parts []pyPart) {
	t.Helper()
	cmd := exec.Command(testkit.Program(t, "python3", "python3"), "-c", pyScript)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v", err)
	}
	var got struct {
		Subject string   `json:"subject"`
		Parts   []pyPart `json:"parts"`
		Defects []string `json:"defects"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Defects) > 0 {
		t.Errorf("Python sees defects %q in\n%s", got.Defects, data)
	}
	return got.Subject, got.Parts
}

// multiparts are the parts at the top as mime/multipart sees them, not decoded.
func multiparts(t *testing.T, data []byte) (types []string) {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return types
		}
		if err != nil {
			t.Fatal(err)
		}
		word, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, word)
		if _, err := io.Copy(io.Discard, p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttachments(t *testing.T) {
	for _, d := range attachmentDoors(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Run("strip", func(t *testing.T) { strips(t, d) })
			t.Run("rename", func(t *testing.T) { renames(t, d) })
			t.Run("others", func(t *testing.T) { otherActions(t, d) })
			t.Run("allow list", func(t *testing.T) { allows(t, d) })
			t.Run("signed", func(t *testing.T) { leavesSigned(t, d) })
			t.Run("untouched", func(t *testing.T) { untouched(t, d) })
			t.Run("banner", func(t *testing.T) { banner(t, d) })
			t.Run("footer", func(t *testing.T) { footer(t, d) })
			t.Run("recipients", func(t *testing.T) { differs(t, d) })
		})
	}
}

// A program goes, in whatever it lies, and a note stands in its place; all
// other bytes stay.
func strips(t *testing.T, d attachmentDoor) {
	for _, tt := range []struct {
		name, file, why string
		content         []byte
	}{
		{"a program", "invoice.exe", "ends in .exe", program},
		{"blanks before the extension", "photo.jpg            .scr", "double extension", program},
		{"a program named as a picture", "a.png", "its content is", program},
		{"in a zip", "papers.zip", "ends in .exe", testkit.Zip("invoice.exe", program)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			original := papers(tt.file, tt.content)
			got := d.passes(t, original, "strip@example.com")[0].Data
			_, parts := python(t, got)
			if len(parts) != 3 || parts[1].Type != "text/plain" || !bytes.Equal(parts[2].Content, picture) || parts[2].Name != "a.png" {
				t.Fatalf("Python sees %+v in\n%s", parts, got)
			}
			note := string(parts[1].Content)
			if !strings.Contains(note, "was removed") || !strings.Contains(note, tt.why) || !strings.Contains(note, "(list strip)") {
				t.Errorf("the note is\n%s", note)
			}
			if types := multiparts(t, got); !slices.Equal(types, []string{"text/plain", "text/plain", "image/png"}) {
				t.Errorf("mime/multipart sees %q", types)
			}
			before, _, _ := bytes.Cut(original[bytes.Index(original, []byte("\r\n\r\nnobody")):], []byte("Content-Type: application/octet-stream"))
			behind := original[bytes.LastIndex(original, []byte("--=_1\r\n")):]
			if !bytes.Contains(got, before) || !bytes.HasSuffix(got, behind) {
				t.Errorf("other parts are not byte for byte what they were:\n%s", got)
			}
		})
	}
}

func renames(t *testing.T, d attachmentDoor) {
	got := d.passes(t, papers("invoice.exe", program), "rename@example.com")[0].Data
	_, parts := python(t, got)
	if len(parts) != 3 || parts[1].Name != "invoice.DEFANGED-exe" || parts[1].Type != "application/octet-stream" || !bytes.Equal(parts[1].Content, program) {
		t.Fatalf("Python sees %+v in\n%s", parts, got)
	}
	if bytes.Contains(got, []byte(`invoice.exe`)) {
		t.Errorf("the old name is still there:\n%s", got)
	}
}

func otherActions(t *testing.T, d attachmentDoor) {
	original := papers("invoice.exe", program)
	res := sendWant(t, d.address, testkit.Letter{From: "s@sender.test", To: []string{"reject@example.com"}, Data: original}, testkit.Dot, 554)
	if !strings.Contains(res.Text(), `"invoice.exe" ends in .exe`) {
		t.Errorf("the refusal says %q", res.Text())
	}
	got := d.passes(t, original, "tag@example.com")[0].Data
	if subject, parts := python(t, got); subject != "[FILE] papers" || len(parts) != 3 || !bytes.Equal(parts[1].Content, program) {
		t.Errorf("subject %q, parts %+v", subject, parts)
	}
	if note := field(string(got), "X-Gatepost-Attachment"); note != "double-extension (list tag)" && note != "banned-extension (list tag)" {
		t.Errorf("the field says %q", note)
	}
	before := len(inState(t, d.gateway, "hold"))
	sendWant(t, d.address, testkit.Letter{From: "s@sender.test", To: []string{"hold@example.com"}, Data: original}, testkit.Dot, 250)
	testkit.Eventually(t, 60*time.Second, "it is held", func() bool { return len(inState(t, d.gateway, "hold")) == before+1 })
}

// The vectors of Protector.
func allows(t *testing.T, d attachmentDoor) {
	for _, tt := range []struct {
		name, file string
		content    []byte
		goes       bool
	}{
		{"PNG named png", "b.png", picture, false},
		{"PE named png", "b.png", program, true},
		{"zip with a PNG", "b.zip", testkit.Zip("b.png", picture), false},
		{"zip with a program", "b.zip", testkit.Zip("x.exe", program), true},
		{"unknown", "b.dat", []byte("\x00\x01\x02\x03\x04 unknown"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			original := papers(tt.file, tt.content)
			got := d.passes(t, original, "allow@example.com")[0].Data
			if _, parts := python(t, got); len(parts) != 3 || bytes.Equal(parts[1].Content, tt.content) == tt.goes {
				t.Errorf("parts %+v", parts)
			}
			if !tt.goes {
				added(t, got, original)
			}
		})
	}
}

// A signed message is not taken apart: it is held, whole.
func leavesSigned(t *testing.T, d attachmentDoor) {
	signed := bytes.Replace(papers("invoice.exe", program), []byte("multipart/mixed; boundary"), []byte("multipart/signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\"; boundary"), 1)
	before := len(inState(t, d.gateway, "hold"))
	sendWant(t, d.address, testkit.Letter{From: "s@sender.test", To: []string{"strip@example.com"}, Data: signed}, testkit.Dot, 250)
	testkit.Eventually(t, 60*time.Second, "it is held", func() bool { return len(inState(t, d.gateway, "hold")) == before+1 })
	if n := len(d.sink.Mails()); n > 0 && bytes.Contains(d.sink.Mails()[n-1].Data, []byte("multipart/signed")) {
		t.Error("it was delivered")
	}
}

// The signature of a message that nothing is changed of still verifies.
func untouched(t *testing.T, d attachmentDoor) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var signed bytes.Buffer
	if err := dkim.Sign(&signed, bytes.NewReader(papers("report.pdf", []byte("%PDF-1.4\n"))), &dkim.SignOptions{
		Domain: "sender.test", Selector: "s", Signer: key, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationSimple, BodyCanonicalization: dkim.CanonicalizationSimple,
	}); err != nil {
		t.Fatal(err)
	}
	got := d.passes(t, signed.Bytes(), "strip@example.com")[0].Data
	added(t, got, signed.Bytes())
	record := "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	found, err := dkim.VerifyWithOptions(bytes.NewReader(got), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{record}, nil }})
	if err != nil || len(found) != 1 || found[0].Err != nil {
		t.Errorf("the signature: %+v, %v", found, err)
	}
}

func banner(t *testing.T, d attachmentDoor) {
	data := []byte("From: s@sender.test\r\nSubject: hello\r\nMessage-ID: <b@sender.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nhello\r\n" +
		"--b\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped([]byte("<html><body bgcolor=white><p>gr\xfc\xdfe</p></body></html>")) + "--b--\r\n")
	_, parts := python(t, d.passes(t, data, "u@banner.example")[0].Data)
	if len(parts) != 2 || string(parts[0].Content) != "This is from outside.\nSchöne Grüße\n\nhello\n" && string(parts[0].Content) != "This is from outside.\r\nSchöne Grüße\r\n\r\nhello" && string(parts[0].Content) != "This is from outside.\r\nSchöne Grüße\r\n\r\nhello\r\n" {
		t.Fatalf("plain text is %q", parts[0].Content)
	}
	if html := string(parts[1].Content); !strings.Contains(html, "<body bgcolor=white>\r\n<div>This is from outside.<br>\r\nSch&#246;ne Gr&#252;&#223;e</div><p>gr\xfc\xdfe</p>") {
		t.Errorf("HTML is %q", html)
	}
}

// What our own clients send has a footer, and nobody else's.
func footer(t *testing.T, d attachmentDoor) {
	data := testkit.Message("f", "hello", "hello")
	for _, client := range []string{"127.0.0.9", "127.0.0.1"} {
		before := len(d.sink.Mails())
		sendWant(t, d.address, testkit.Letter{From: "u@ours.example", To: []string{"x@example.com"}, Data: data, Client: client}, testkit.Dot, 250)
		got := d.sink.Wait(before+1, 60*time.Second)[before].Data
		if has := bytes.HasSuffix(got, []byte("\r\n\r\nhello\r\n\r\nOurs Ltd.\r\n")); has != (client == "127.0.0.9") {
			t.Errorf("from %s:\n%s", client, got)
		}
	}
}

// Who is to get a message without a part never gets it with that, in whatever
// company: where there can be one copy only, the other is held.
func differs(t *testing.T, d attachmentDoor) {
	for _, to := range [][]string{{"nolist@example.com", "strip@example.com"}, {"strip@example.com", "nolist@example.com"}} {
		before, held := len(d.sink.Mails()), len(inState(t, d.gateway, "hold"))
		sendWant(t, d.address, testkit.Letter{From: "s@sender.test", To: to, Data: papers("invoice.exe", program)}, testkit.Dot, 250)
		testkit.Eventually(t, 60*time.Second, "both copies", func() bool {
			return len(d.sink.Mails())-before+len(inState(t, d.gateway, "hold"))-held == 2
		})
		for _, m := range d.sink.Mails()[before:] {
			whole := bytes.Contains(m.Data, []byte(wrapped(program)))
			if forStrip := strings.HasPrefix(m.To[0], "<strip@"); len(m.To) != 1 || forStrip == whole {
				t.Errorf("to %q, with the program: %t", m.To, whole)
			}
		}
	}
}

// Recipients with other lists get other copies of the same message.
func TestAttachmentsOfRecipients(t *testing.T) {
	d := attachmentDoors(t)[0]
	mails := d.passes(t, papers("invoice.exe", program), "strip@example.com", "rename@example.com", "nolist@example.com", "allow@example.com")
	got := make(map[string]string)
	for _, m := range mails {
		for _, to := range m.To {
			to = strings.Trim(to[:strings.IndexByte(to, '>')], "<")
			_, parts := python(t, m.Data)
			what := "whole"
			switch {
			case parts[1].Name == "invoice.DEFANGED-exe":
				what = "renamed"
			case strings.Contains(string(parts[1].Content), "was removed"):
				what = "stripped"
			}
			got[to] = what
		}
	}
	want := "map[allow@example.com:stripped nolist@example.com:whole rename@example.com:renamed strip@example.com:stripped]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A footer stands below what goes out, once for each form of the text, and a
// reload changes it.
func TestFooter(t *testing.T) {
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	file := g.Dir + "/footer"
	if err := os.WriteFile(file, []byte("Example Ltd., one\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	g.Config.Set(`route."."`, "to", fmt.Sprintf(`["smtp://%s"]`, sink.Addr))
	g.Config.Set("text.footer.company", "text", fmt.Sprintf("%q", "file:"+file))
	testkit.Up(t, g)
	out := testkit.Letter{From: "u@example.com", To: []string{"x@elsewhere.test"}, Client: "127.0.0.9", Data: testkit.Message("1", "out", "hello")}
	inside := out
	inside.To = []string{"v@example.com"}
	send := func(l testkit.Letter) string {
		before := len(sink.Mails())
		sendWant(t, g.Addr, l, testkit.Dot, 250)
		return string(sink.Wait(before+1, 60*time.Second)[before].Data)
	}
	if got := send(out); !strings.HasSuffix(got, "\r\n\r\nhello\r\n\r\nExample Ltd., one\r\n") {
		t.Errorf("going out:\n%s", got)
	}
	if got := send(inside); strings.Contains(got, "Example Ltd.") {
		t.Errorf("inside:\n%s", got)
	}
	if err := os.WriteFile(file, []byte("Example Ltd., two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := g.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, "the new footer", func() bool { return strings.HasSuffix(send(out), "\r\n\r\nExample Ltd., two\r\n") })
}
