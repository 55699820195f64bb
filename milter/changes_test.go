package milter

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
	"pgregory.net/rapid"
)

func headerOf(t interface {
	Fatal(...any)
}, text string) mail.Header {
	h, _, err := mail.SplitHeader([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func addField(name, value string) Edit {
	return Edit{Code: byte(milter.ActAddHeader), Header: wire.Header{Name: name, Value: value}}
}

func insertField(at uint32, name, value string) Edit {
	return Edit{Code: byte(milter.ActInsertHeader), Header: wire.Header{Index: at, Name: name, Value: value}}
}

func changeField(n uint32, name, value string) Edit {
	return Edit{Code: byte(milter.ActChangeHeader), Header: wire.Header{Index: n, Name: name, Value: value}}
}

// Postfix shows a filter all fields but its own Received on top.
func TestChangesOfTheHeader(t *testing.T) {
	const before = "Received: ours\nReceived: theirs\nSubject: old\nX-A: 1\nx-a: 2\n"
	for _, tt := range []struct {
		name  string
		edits []Edit
		want  string
	}{
		{"nothing", nil, before},
		{"add", []Edit{addField("X-N", "1")}, before + "X-N: 1\n"},
		{"insert 0 is above our own", []Edit{insertField(0, "X-N", "1")}, "X-N: 1\n" + before},
		{"insert 1 is below it", []Edit{insertField(1, "X-N", "1")}, "Received: ours\nX-N: 1\nReceived: theirs\nSubject: old\nX-A: 1\nx-a: 2\n"},
		{"insert beyond the end", []Edit{insertField(99, "X-N", "1")}, before + "X-N: 1\n"},
		{"inserted fields count", []Edit{insertField(1, "X-N", "1"), insertField(2, "X-M", "2")}, "Received: ours\nX-N: 1\nX-M: 2\nReceived: theirs\nSubject: old\nX-A: 1\nx-a: 2\n"},
		{"deleted ones do not", []Edit{changeField(1, "Received", ""), insertField(2, "X-N", "1")}, "Received: ours\nSubject: old\nX-N: 1\nX-A: 1\nx-a: 2\n"},
		{"change does not see our own", []Edit{changeField(1, "Received", "new")}, "Received: ours\nReceived: new\nSubject: old\nX-A: 1\nx-a: 2\n"},
		{"0 is 1", []Edit{changeField(0, "subject", "new")}, "Received: ours\nReceived: theirs\nsubject: new\nX-A: 1\nx-a: 2\n"},
		{"names have no case", []Edit{changeField(2, "X-A", "new")}, "Received: ours\nReceived: theirs\nSubject: old\nX-A: 1\nX-A: new\n"},
		{"delete twice is both", []Edit{changeField(1, "X-A", ""), changeField(1, "X-A", "")}, "Received: ours\nReceived: theirs\nSubject: old\n"},
		{"delete one that is not there", []Edit{changeField(3, "X-A", "")}, before},
		{"change one that is not there", []Edit{changeField(3, "X-A", "3")}, before + "X-A: 3\n"},
		{"change what was added", []Edit{addField("X-N", "1"), changeField(1, "X-N", "2")}, before + "X-N: 2\n"},
		{"take back what was added", []Edit{addField("X-N", "1"), changeField(1, "X-N", "")}, before},
		{"folded", []Edit{addField("X-N", "a\n b\r\n\tc")}, before + "X-N: a\n b\n\tc\n"},
		{"no second field", []Edit{addField("X-N", "a\nBcc: x")}, before + "X-N: a\n\tBcc: x\n"},
		{"no end of the header", []Edit{addField("X-N", "a\n\n \n\nbody\r")}, before + "X-N: a\n\tbody\n"},
		{"empty", []Edit{addField("X-N", "")}, before + "X-N: \n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := headerOf(t, before)
			c, err := Sent{Header: h, Hidden: 1}.Changes(tt.edits)
			if err != nil {
				t.Fatal(err)
			}
			_, m := mail.Apply(mail.Envelope{}, mail.NewMessage(h, strings.NewReader(""), 0), c.Edits)
			if got := strings.ReplaceAll(string(m.Header.Bytes()), "\r\n", "\n"); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestChangesOfTheRest(t *testing.T) {
	env := mail.Envelope{Recipients: []mail.Path{{Address: mail.Address{Local: "a", Domain: "b.example"}}, {Address: mail.Address{Local: "c", Domain: "b.example"}}}}
	to := func(code milter.ModifyActCode, address string, args ...string) Edit {
		return Edit{Code: byte(code), Envelope: wire.Envelope{Address: address, Args: args}}
	}
	c, err := Sent{Host: "mx.example"}.Changes([]Edit{
		{Code: byte(milter.ActReplBody), Body: []byte("one ")},
		{Code: byte(milter.ActReplBody), Body: []byte("two")},
		to(milter.ActChangeFrom, "<new@s.example>", "SIZE=1 BODY=8BITMIME"),
		to(milter.ActDelRcpt, "<A@B.EXAMPLE>"), // another local part
		to(milter.ActDelRcpt, "c@B.example"),
		to(milter.ActDelRcpt, "not an address"),
		to(milter.ActAddRcpt, "<root>"),
		to(codeAddRcptArgs, "d@b.example", "NOTIFY=NEVER"),
		{Code: byte(milter.ActQuarantine), Reason: "odd\r\nX: y"},
	})
	if err != nil {
		t.Fatal(err)
	}
	env, m := mail.Apply(env, mail.NewMessage(nil, strings.NewReader("old"), 3), c.Edits)
	body, err := io.ReadAll(m.Body())
	if err != nil || string(body) != "one two" {
		t.Errorf("body = %q, %v", body, err)
	}
	got := []string{env.Sender.String(), strings.Join(env.Sender.Args, " ")}
	for _, r := range env.Recipients {
		got = append(got, r.String()+" "+strings.Join(r.Args, " "))
	}
	if want := "new@s.example,SIZE=1 BODY=8BITMIME,a@b.example ,root@mx.example ,d@b.example NOTIFY=NEVER"; strings.Join(got, ",") != want {
		t.Errorf("envelope = %q, want %q", got, want)
	}
	if !c.Quarantine || c.Reason != "odd  X: y" {
		t.Errorf("quarantine = %v, %q", c.Quarantine, c.Reason)
	}
}

func TestChangesRefused(t *testing.T) {
	for name, e := range map[string]Edit{
		"sender that is no address":    {Code: byte(milter.ActChangeFrom), Envelope: wire.Envelope{Address: "<a b@c>"}},
		"recipient that is no address": {Code: byte(milter.ActAddRcpt), Envelope: wire.Envelope{Address: "<a@b\r\nRCPT>"}},
		"no recipient":                 {Code: byte(milter.ActAddRcpt), Envelope: wire.Envelope{Address: "<>"}},
		"argument with a control":      {Code: codeAddRcptArgs, Envelope: wire.Envelope{Address: "<a@b.example>", Args: []string{"X=\x01"}}},
		"name with a blank":            addField("Sub ject", "x"),
		"name that is not ASCII":       addField("Sübject", "x"),
		"field of 100 kB":              addField("X", strings.Repeat("x", 100_000)),
	} {
		if _, err := (Sent{}).Changes([]Edit{e}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What the server encodes of edits the client decodes to the same message, an
// MTA's own Received on top or not.
func TestEditsThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"Received", "X-A", "x-a", "Subject"})
		var h mail.Header
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			h = append(h, mail.NewField(name.Draw(t, "name"), rapid.StringMatching(`[a-z]{1,4}`).Draw(t, "value")))
		}
		var edits []mail.Edit
		touched := map[int]bool{}
		for i := range rapid.IntRange(0, 6).Draw(t, "edits") {
			f := mail.NewField(name.Draw(t, "new name"), fmt.Sprint(i))
			at := rapid.IntRange(0, len(h)).Draw(t, "at")
			switch what := rapid.IntRange(0, 2).Draw(t, "what"); {
			case what == 0 || at == len(h):
				edits = append(edits, mail.InsertHeader{At: at, Field: f})
			case touched[at]: // a field is changed or deleted once
			case what == 1:
				touched[at] = true
				edits = append(edits, mail.DeleteHeader{At: at})
			default:
				touched[at] = true
				edits = append(edits, mail.ChangeHeader{At: at, Field: mail.NewField(h[at].Name(), fmt.Sprint(i))})
			}
		}
		_, want := mail.Apply(mail.Envelope{}, mail.NewMessage(h, strings.NewReader(""), 0), edits)

		var sent []Edit
		for _, c := range headerCommands(h, edits, postfix) {
			sent = append(sent, Edit{Code: c.code, Header: wire.Header{Index: c.index, Name: c.name, Value: c.value}})
		}
		own := mail.NewField("Received", "own")
		full := append(mail.Header{own}, h...)
		c, err := Sent{Header: full, Hidden: 1, Exact: true}.Changes(sent)
		if err != nil {
			t.Fatal(err)
		}
		_, got := mail.Apply(mail.Envelope{}, mail.NewMessage(full, strings.NewReader(""), 0), c.Edits)
		if g, w := string(got.Header.Bytes()), string(own.Raw())+string(want.Header.Bytes()); g != w {
			t.Fatalf("got\n%s\nwant\n%s\nof\n%s\nby %+v\nas %+v", g, w, h.Bytes(), edits, sent)
		}
	})
}
