package integration

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	milter "github.com/d--j/go-milter"
	"pgregory.net/rapid"

	"gatepost/internal/testkit"
)

// TestMTAWithScriptedChildren: what up to five milters behind Gatepost want of a
// message is what a real MTA delivers, byte for byte.
func TestMTAWithScriptedChildren(t *testing.T) {
	needRoot(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s := &mtaSetup{T: t, sink: testkit.Up(t, testkit.NewSink())}
			s.gateway = newGateway(t, binaries.race, s.sink.Addr)
			children := make([]*scripted, 5)
			for i := range children {
				children[i] = newScripted(t, nil)
				name := fmt.Sprintf("filter.c%d", i)
				s.gateway.Config.Set(name, "kind", `"milter"`)
				s.gateway.Config.Set(name, "address", fmt.Sprintf("%q", "unix:"+children[i].socket))
			}
			address := milterSocket(t, s.gateway, "unix")
			testkit.Up(t, s.gateway)
			s.mta = testkit.Up(t, kind.make(testkit.Dir(t), s.sink.Addr, "unix", address))
			t.Run("ARC sets", func(t *testing.T) { arcSets(s.with(t), children) })
			t.Run("random edits", func(t *testing.T) { randomEdits(s.with(t), children, kind.name == "sendmail") })
			t.Run("unknown commands", func(t *testing.T) { unknownCommand(s.with(t), children, kind.name == "sendmail") })
		})
	}
}

func (s *mtaSetup) with(t *testing.T) *mtaSetup {
	c := *s
	c.T = t
	return &c
}

// arcSet puts a set of fields on top, as a sealer does (RFC 8617 5.1).
func arcSet(m milter.Modifier, instance string) error {
	return errors.Join(
		m.InsertHeader(1, "ARC-Authentication-Results", " "+instance+"; sealer.test; spf=pass"),
		m.InsertHeader(1, "ARC-Message-Signature", " "+instance+"; a=rsa-sha256;\n\tb=AAAA"),
		m.InsertHeader(1, "ARC-Seal", " "+instance+"; cv=pass"))
}

// Two sealers, and edits by others between and beside them: the sets arrive in
// one piece each, the younger above.
func arcSets(s *mtaSetup, children []*scripted) {
	for i, script := range []script{
		edits(func(m milter.Modifier) error {
			return errors.Join(m.AddHeader("X-Last", " 0"), m.ChangeHeader(1, "Subject", " by c0"))
		}),
		edits(func(m milter.Modifier) error { return arcSet(m, "i=2") }),
		edits(func(m milter.Modifier) error { return m.ChangeHeader(1, "X-Gone", "") }),
		edits(func(m milter.Modifier) error { return arcSet(m, "i=3") }),
		edits(func(m milter.Modifier) error { return m.InsertHeader(1, "DKIM-Signature", " v=1; b=BBBB") }),
	} {
		children[i].does(script)
	}
	const i1 = "ARC-Seal: i=1; cv=none\r\nARC-Message-Signature: i=1; b=0000\r\nARC-Authentication-Results: i=1; first.test; spf=pass\r\n"
	set := func(i string) string {
		return "ARC-Seal: " + i + "; cv=pass\r\nARC-Message-Signature: " + i + "; a=rsa-sha256;\r\n\tb=AAAA\r\nARC-Authentication-Results: " + i + "; sealer.test; spf=pass\r\n"
	}
	rest := string(testkit.Message("arc", "as it was", "text\r\n"))
	before := len(s.sink.Mails())
	sendWant(s.T, s.Address(), letter([]byte("X-Gone: 1\r\n"+i1+rest)), testkit.Dot, 250)
	got := ownLeftOut(s.T, s.arrive(before).Data)
	head, body, _ := strings.Cut(strings.Replace(rest, "Subject: as it was", "Subject: by c0", 1), "\r\n\r\n")
	want := "DKIM-Signature: v=1; b=BBBB\r\n" + set("i=3") + set("i=2") + i1 + head + "\r\nX-Last: 0\r\n\r\n" + body
	if got != want {
		s.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// ownLeftOut is a delivered message without the MTA's Received and our ID on
// top of it.
func ownLeftOut(t *testing.T, data []byte) string {
	t.Helper()
	fields := splitFields(string(data))
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "Received:") || !strings.HasPrefix(fields[1], "X-Gatepost-ID:") {
		t.Fatalf("Received and X-Gatepost-ID are not on top:\n%s", data)
	}
	return string(data[len(fields[0])+len(fields[1]):])
}

// change is one edit of a child.
type change struct {
	kind  string // "add", "insert", "change", "body", "from", "+rcpt", "-rcpt"
	index int
	name  string
	value string // "" in a change: the field goes
}

// edited is a message with what the children make of it.
type edited struct {
	number  int
	fields  []line
	changes [][]change // of each child
}

// line is a header field in the model.
type line struct {
	name, value string
	own, dead   bool // the MTA's Received; deleted, and still in its place
}

func (l line) String() string {
	return l.name + ":" + strings.ReplaceAll(l.value, "\n", "\r\n") + "\r\n"
}

func drawEdited(t *rapid.T) edited {
	name := rapid.SampledFrom([]string{"X-A", "x-a", "X-B", "Received", "DKIM-Signature", "Comments"})
	value := func(what string) string {
		return rapid.SampledFrom([]string{" ", "", "\t", " folded\n\t", "  two blanks "}).Draw(t, "style") + what
	}
	var e edited
	for i := range rapid.IntRange(0, 6).Draw(t, "fields") {
		e.fields = append(e.fields, line{name: name.Draw(t, "name"), value: value("f" + strconv.Itoa(i))})
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "children") {
		var all []change
		for j := range rapid.IntRange(0, 4).Draw(t, "changes") {
			mark := fmt.Sprintf("c%d.%d", i, j)
			c := change{
				kind:  rapid.SampledFrom([]string{"add", "insert", "change", "change", "delete", "body", "from", "+rcpt", "-rcpt"}).Draw(t, "kind"),
				index: rapid.IntRange(1, 8).Draw(t, "index"), name: name.Draw(t, "edited"), value: value(mark),
			}
			switch c.kind {
			case "delete":
				c.kind, c.value, c.index = "change", "", min(c.index, 3)
			case "body":
				c.value = mark + " new body\r\n.\r\n..\r\nend\r\n"
			case "from":
				c.value = mark + "@changed.test"
			case "+rcpt", "-rcpt":
				c.value = rapid.SampledFrom([]string{"v@example.com", "w@example.com", "x@example.com"}).Draw(t, "rcpt")
			}
			all = append(all, c)
		}
		e.changes = append(e.changes, all)
	}
	return e
}

// ask tells the MTA of a change.
func (c change) ask(m milter.Modifier) error {
	switch c.kind {
	case "add":
		return m.AddHeader(c.name, c.value)
	case "insert":
		return m.InsertHeader(c.index, c.name, c.value)
	case "change":
		return m.ChangeHeader(c.index, c.name, c.value)
	case "body":
		return m.ReplaceBody(strings.NewReader(c.value))
	case "from":
		return m.ChangeFrom(c.value, "")
	case "+rcpt":
		return m.AddRecipient(c.value, "")
	}
	return m.DeleteRecipient(c.value)
}

// to does a change of a header as the MTA does it: Postfix (cleanup_milter.c),
// or sendmail (milter_changeheader), where deleted fields keep their place
// while one milter works.
func (c change) to(h []line, sendmail bool) []line {
	switch c.kind {
	case "add":
		return append(h, line{name: c.name, value: c.value})
	case "insert":
		return slices.Insert(h, min(c.index, len(h)), line{name: c.name, value: c.value})
	}
	n := c.index
	for i, l := range h {
		if l.own || !strings.EqualFold(l.name, c.name) {
			continue
		}
		if n--; n > 0 {
			continue
		}
		switch {
		case c.value != "" && sendmail:
			h[i].value, h[i].dead = c.value, false // and keeps the spelling of its name
		case c.value != "":
			h[i].name, h[i].value = c.name, c.value
		case sendmail:
			h[i].dead = true
		default:
			h = slices.Delete(h, i, i+1)
		}
		return h
	}
	if c.value == "" {
		return h
	}
	return append(h, line{name: c.name, value: c.value})
}

// message is e as the client sends it, and model what is to be delivered: the
// sender, the recipients and the text.
func (e edited) message(body string) (data []byte, tail []line) {
	tail = []line{
		{name: "From", value: " s@sender.test"}, {name: "To", value: " u@example.com"}, {name: "X-Number", value: " " + strconv.Itoa(e.number)},
		{name: "Message-ID", value: fmt.Sprintf(" <%d@sender.test>", e.number)}, {name: "Date", value: " Sat, 21 Nov 2026 10:00:00 +0000"}, {name: "Subject", value: " x"},
	}
	var b bytes.Buffer
	for _, l := range slices.Concat(e.fields, tail) {
		b.WriteString(l.String())
	}
	return append(append(b.Bytes(), "\r\n"...), body...), tail
}

func (e edited) model(sendmail bool, body string) (from string, to []string, text string) {
	_, tail := e.message(body)
	h := slices.Concat([]line{{name: "Received", own: true}}, e.fields, tail)
	from, to = fmt.Sprintf("s%d@sender.test", e.number), []string{"u@example.com", "v@example.com"}
	for _, all := range e.changes {
		var parts string // of one milter's body
		for _, c := range all {
			switch c.kind {
			case "body":
				parts += c.value
				body = parts
			case "from":
				from = c.value
			case "+rcpt":
				if !slices.Contains(to, c.value) {
					to = append(to, c.value)
				}
			case "-rcpt":
				to = slices.DeleteFunc(to, func(r string) bool { return r == c.value })
			default:
				h = c.to(h, sendmail)
			}
		}
		// The next milter is sent the header as it stands: nothing is dead in it.
		h = slices.DeleteFunc(h, func(l line) bool { return l.dead })
	}
	var b strings.Builder
	for _, l := range h[1:] {
		b.WriteString(l.String())
	}
	slices.Sort(to)
	return from, to, b.String() + "\r\n" + body
}

// seed of the sequences: each is drawn from its number on top of it.
const (
	seed      = 20261121
	sequences = 40
)

// randomEdits sends them all over one session, and looks then at what arrived.
func randomEdits(s *mtaSetup, children []*scripted, sendmail bool) {
	s.Logf("%d sequences from seed %d", sequences, seed)
	all := make([]edited, sequences)
	for i := range all {
		all[i] = rapid.Custom(drawEdited).Example(seed + i)
		all[i].number = i
	}
	for k, c := range children {
		c.does(func(event string, m milter.Modifier) (*milter.Response, error) {
			if event != "end" {
				return nil, nil
			}
			i, err := strconv.Atoi(strings.TrimLeft(strings.TrimSuffix(m.Get(milter.MacroMailAddr), "@sender.test"), "s"))
			if err != nil || k >= len(all[i].changes) {
				return nil, err
			}
			var errs []error
			for _, c := range all[i].changes[k] {
				errs = append(errs, c.ask(m))
			}
			return nil, errors.Join(errs...)
		})
	}
	const body = "body\r\n.dot\r\nlast\r\n"
	before := len(s.sink.Mails())
	d := testkit.Connect(s, s.Address())
	d.Do("EHLO client.test", 250)
	for i, e := range all {
		data, _ := e.message(body)
		l := testkit.Letter{From: fmt.Sprintf("s%d@sender.test", i), To: []string{"u@example.com", "v@example.com"}, Data: data}
		if res := d.Deliver(l); !res.Accepted() {
			s.Fatalf("sequence %d: %v\n%+v", i, res, e.changes)
		}
	}
	d.Do("QUIT", 221)
	mails := s.sink.Wait(before+len(all), 60*time.Second)
	if len(mails) != before+len(all) {
		s.Fatalf("%d messages arrived, want %d", len(mails)-before, len(all))
	}
	seen := map[int]bool{}
	for _, got := range mails[before:] {
		i, err := strconv.Atoi(field(string(got.Data), "X-Number"))
		if err != nil || seen[i] {
			s.Fatalf("which one is this? %v\n%s", err, got.Data)
		}
		seen[i] = true
		from, to, text := all[i].model(sendmail, body)
		var rcpts []string
		for _, r := range got.To {
			rcpts = append(rcpts, address(r))
		}
		slices.Sort(rcpts)
		if arrived := ownLeftOut(s.T, got.Data); address(got.From) != from || !slices.Equal(rcpts, to) || arrived != text {
			s.Errorf("sequence %d: %+v\nfields %+v\ngot from %s to %s\n%q\nwant from %s to %s\n%q", i, all[i].changes, all[i].fields, got.From, rcpts, arrived, from, to, text)
		}
	}
}

// address is the one of "<a@b> SIZE=12".
func address(path string) string {
	a, _, _ := strings.Cut(strings.TrimPrefix(path, "<"), ">")
	return a
}

// unknownCommand: the MTA asks us about a command that it doesn't know, since a
// child wants to hear of it.
func unknownCommand(s *mtaSetup, children []*scripted, sendmail bool) {
	for _, c := range children {
		c.does(nil)
	}
	children[3].does(answers("unknown", says(502, "5.7.0 c3 knows it")))
	d := testkit.Connect(s, s.Address())
	d.Do("EHLO client.test", 250)
	r := d.Do("XYZZY plugh", 5)
	want := "unknown XYZZY" // Postfix leaves out the arguments
	if sendmail {
		want += " plugh"
	}
	if got := children[0].saw("unknown"); got != want {
		s.Errorf("c0 saw %q", got)
	}
	if got := children[4].saw("unknown"); got != "" {
		s.Errorf("c4 saw %q", got)
	}
	if got := r.String(); got != "502 5.7.0 c3 knows it" {
		s.Errorf("the client got %s", got)
	}
	d.Do("QUIT", 221)
}
