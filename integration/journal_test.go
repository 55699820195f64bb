package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// What was sent to its end is in the journal, refused mail included; the copy
// by mail reaches the archive; what can't be recorded is not taken.
func TestJournal(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.race, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	maildir := filepath.Join(testkit.Dir(t), "journal")
	g.Config.Set("journal.legal", "maildir", `"`+maildir+`"`)
	g.Config.Set("journal.archive", "to", `"archive@example.com"`)
	g.Config.Set("journal.archive", "when", `"after"`)
	testkit.Up(t, g)

	clean, virus := testkit.Message("1", "clean", ".a dot\r\nand text"), testkit.Message("2", "virus", testkit.EICAR())
	sendWant(t, g.Addr, letter(clean), testkit.Dot, 250)
	sendWant(t, g.Addr, letter(virus), testkit.Dot, 554)

	copies := journaled(t, maildir)
	if len(copies) != 2 || !strings.Contains(copies[0]+copies[1], string(clean)) || !strings.Contains(copies[0]+copies[1], string(virus)) {
		t.Errorf("%d copies in the Maildir:\n%s", len(copies), copies)
	}
	for _, c := range copies {
		if !strings.Contains(c, "\r\nSender: <s@sender.test>\r\n") || !strings.Contains(c, "\r\nRecipient: <u@example.com>\r\n") {
			t.Errorf("no envelope in\n%s", c)
		}
	}

	var archived [][]byte
	for _, m := range waitMails(t, sink, 2) {
		if m.To[0] == "<archive@example.com>" {
			archived = append(archived, m.Data)
			if !strings.HasPrefix(m.From, "<>") {
				t.Errorf("copy from %q", m.From)
			}
		}
	}
	if len(archived) != 1 || !bytes.Contains(archived[0], clean) || !bytes.Contains(archived[0], []byte("X-Virus-Scanned:")) ||
		!bytes.Contains(archived[0], []byte("Recipient: <u@example.com> (accepted)\r\n")) {
		t.Errorf("archived: %q", archived)
	}

	if err := os.RemoveAll(maildir); err != nil {
		t.Fatal(err)
	}
	sendWant(t, g.Addr, letter(clean), testkit.Dot, 451)
	if err := os.MkdirAll(filepath.Join(maildir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(maildir, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	sendWant(t, g.Addr, letter(clean), testkit.Dot, 250)
}

func journaled(t *testing.T, maildir string) (copies []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(maildir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, string(b))
	}
	return copies
}
