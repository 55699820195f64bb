package milter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"

	"github.com/emersion/go-milter"
	"pgregory.net/rapid"
)

// mtaHeader is what an MTA does with the commands: its own Received, which we
// never see, stands first; fields that sendmail deletes keep their place, and
// those of its configuration have one though they are empty.
type mtaHeader struct {
	dialect dialect
	fields  []mtaField
}

type mtaField struct {
	text, name string
	hidden     bool // the MTA's own
	dead       bool
}

func (h *mtaHeader) do(c headerCommand) {
	text := c.name + ":" + c.value
	switch c.code {
	case byte(milter.ActAddHeader):
		at := len(h.fields)
		if h.dialect == sendmail { // addheader: above the first of its name
			if i := slices.IndexFunc(h.fields, func(f mtaField) bool { return strings.EqualFold(f.name, c.name) }); i >= 0 {
				at = i
			}
		}
		h.fields = slices.Insert(h.fields, at, mtaField{text: text, name: c.name})
	case byte(milter.ActInsertHeader):
		at := min(int(c.index), len(h.fields))
		h.fields = slices.Insert(h.fields, at, mtaField{text: text, name: c.name})
	case byte(milter.ActChangeHeader):
		n := uint32(0)
		for i, f := range h.fields {
			if f.hidden || f.dead || !strings.EqualFold(f.name, c.name) {
				continue
			}
			if n++; n < c.index {
				continue
			}
			switch {
			case c.value != "" && h.dialect == sendmail:
				h.fields[i].text = f.name + ":" + c.value
			case c.value != "":
				h.fields[i].text = text
			case h.dialect == sendmail:
				h.fields[i].dead = true
			default:
				h.fields = slices.Delete(h.fields, i, i+1)
			}
			return
		}
		panic(fmt.Sprintf("no field %d named %s", c.index, c.name))
	}
}

func (h *mtaHeader) String() string {
	var b strings.Builder
	for _, f := range h.fields {
		if !f.hidden && !f.dead {
			b.WriteString(f.text + "\n")
		}
	}
	return b.String()
}

// Random edits come out of either MTA as mail.Apply makes them.
func TestHeaderCommandsAgreeWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]dialect{postfix, sendmail}).Draw(t, "dialect")
		name := rapid.SampledFrom([]string{"A", "a", "B", "Received", "X-C"})
		var h mail.Header
		mta := &mtaHeader{dialect: d, fields: []mtaField{{text: "own", name: "Received", hidden: true}}}
		if d == sendmail {
			for _, name := range []string{"Date", "A", "From"} {
				mta.fields = append(mta.fields, mtaField{name: name, hidden: true, dead: true})
			}
		}
		for i := range rapid.IntRange(0, 6).Draw(t, "fields") {
			f := mail.NewField(name.Draw(t, "name"), fmt.Sprint(i))
			h = append(h, f)
			mta.fields = append(mta.fields, mtaField{text: f.Name() + ":" + fieldValue(f), name: f.Name()})
		}
		var edits []mail.Edit
		touched := map[int]bool{}
		for i := range rapid.IntRange(0, 6).Draw(t, "edits") {
			f := mail.NewField(name.Draw(t, "new name"), fmt.Sprintf("new %d", i))
			kind := rapid.IntRange(0, 2).Draw(t, "kind")
			if kind == 0 || len(h) == 0 {
				edits = append(edits, mail.InsertHeader{At: rapid.IntRange(0, len(h)).Draw(t, "at"), Field: f})
				continue
			}
			at := rapid.IntRange(0, len(h)-1).Draw(t, "field")
			if touched[at] {
				continue
			}
			touched[at] = true
			if kind == 1 {
				edits = append(edits, mail.DeleteHeader{At: at})
			} else {
				edits = append(edits, mail.ChangeHeader{At: at, Field: mail.NewField(h[at].Name(), fmt.Sprintf("changed %d", i))})
			}
		}
		for _, c := range headerCommands(h, edits, d) {
			mta.do(c)
		}
		_, want := mail.Apply(mail.Envelope{}, mail.NewMessage(h, strings.NewReader(""), 0), edits)
		if got := mta.String(); got != strings.ReplaceAll(string(want.Header.Bytes()), "\r\n", "\n") {
			t.Fatalf("the MTA has\n%swant\n%s", got, want.Header.Bytes())
		}
	})
}

// The protocol has no command that changes a name.
func TestChangeOfName(t *testing.T) {
	h := mail.Header{mail.NewField("A", "1"), mail.NewField("B", "2")}
	mta := &mtaHeader{fields: []mtaField{{name: "Received", hidden: true}, {"A: 1", "A", false, false}, {"B: 2", "B", false, false}}}
	for _, c := range headerCommands(h, []mail.Edit{mail.ChangeHeader{At: 0, Field: mail.NewField("C", "3")}}, postfix) {
		mta.do(c)
	}
	if got, want := mta.String(), "C: 3\nB: 2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
