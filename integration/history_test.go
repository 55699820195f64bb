package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// life is what "gatepost explain --json" says, as far as these tests look.
type life struct {
	Records []recorded `json:"records"`
	Events  []struct {
		ID     string `json:"id"`
		What   string `json:"what"`
		Rcpt   string `json:"rcpt"`
		Status string `json:"status"`
		Text   string `json:"text"`
		By     string `json:"by"`
	} `json:"events"`
}

type recorded struct {
	ID         string  `json:"id"`
	Stage      string  `json:"stage"`
	Action     string  `json:"action"`
	Reply      string  `json:"reply"`
	Subject    string  `json:"subject"`
	MessageID  string  `json:"message_id"`
	Generation string  `json:"generation"`
	Again      bool    `json:"again"`
	Score      float64 `json:"score"`
	Session    struct {
		Via      string `json:"via"`
		Listener string `json:"listener"`
		Client   string `json:"client"`
	} `json:"session"`
	Recipients []struct {
		Address string `json:"address"`
		Action  string `json:"action"`
		Stage   string `json:"stage"`
	} `json:"recipients"`
	Findings []struct{ Filter, Name, Value string } `json:"findings"`
	Asked    []struct{ Filter, Result string }      `json:"asked"`
	Inside   *struct {
		Parts []struct {
			Names  []string `json:"names"`
			SHA256 string   `json:"sha256"`
		} `json:"parts"`
	} `json:"inside"`
}

// what lists the events of a life: "queued attempt:sent removed".
func (l life) what() string {
	var all []string
	for _, e := range l.Events {
		if e.Status != "" {
			e.What += ":" + e.Status
		}
		all = append(all, e.What)
	}
	return strings.Join(all, " ")
}

// traced runs "gatepost trace --json" until it finds n records.
func traced(t *testing.T, g *testkit.Gateway, n int, args ...string) []recorded {
	t.Helper()
	var found []recorded
	last := ""
	testkit.Eventually(t, 60*time.Second, fmt.Sprintf("%d records of %v", n, args), func() bool {
		res, err := g.Run(append([]string{"trace", "--json", "-n", "500"}, args...)...)
		if err != nil || res.Code != 0 && res.Code != 66 {
			t.Fatalf("trace %v: %v, %d %s", args, err, res.Code, res.Stderr)
		}
		found = nil
		for line := range strings.Lines(res.Stdout) {
			var r recorded
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("trace: %v in %s", err, line)
			}
			found = append(found, r)
		}
		if last = res.Stdout; len(found) > n {
			t.Fatalf("trace %v: %d records, want %d:\n%s", args, len(found), n, last)
		}
		return len(found) == n
	})
	return found
}

// explained runs "gatepost explain --json" until the events are these.
func explained(t *testing.T, g *testkit.Gateway, id, events string) (l life) {
	t.Helper()
	testkit.Eventually(t, 60*time.Second, id+" has the events "+events, func() bool {
		res, err := g.Run("explain", "--json", id)
		if err != nil || res.Code != 0 && res.Code != 66 {
			t.Fatalf("explain %s: %v, %d %s", id, err, res.Code, res.Stderr)
		}
		l = life{}
		if res.Code == 0 {
			if err := json.Unmarshal([]byte(res.Stdout), &l); err != nil {
				t.Fatal(err)
			}
		}
		if len(strings.Fields(l.what())) > len(strings.Fields(events)) {
			t.Fatalf("%s: events %s, want %s", id, l.what(), events)
		}
		return len(l.Records) > 0 && l.what() == events
	})
	return l
}

// byID is the ID that a message of ours was recorded under.
func byMessageID(t *testing.T, g *testkit.Gateway, id string) recorded {
	t.Helper()
	return traced(t, g, 1, "--message-id", "<"+id+"@sender.test>")[0]
}

// TestHistory: each fate of a message, told by the record of it, while the
// gateway runs and after.
func TestHistory(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.NewSink()
	sink.Rule = func(verb, arg string) string {
		switch {
		case verb == "RCPT" && strings.Contains(arg, "later@"):
			return "450 4.2.0 come later"
		case verb == "RCPT" && strings.Contains(arg, "nobody@"):
			return "550 5.1.1 no such user"
		}
		return ""
	}
	testkit.Up(t, sink)
	g := newGateway(t, binaries.plain, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.Config.Set("queue", "first_retry", `"1h"`)
	g.Config.Set("queue", "max_retry", `"1h"`)
	g.Config.Set(`policy.for."hold@example.com"`, "virus", `"quarantine"`)
	testkit.Up(t, g)
	send := func(to string, data []byte, stage string, code int) {
		t.Helper()
		sendWant(t, g.Addr, testkit.Letter{From: "s@sender.test", To: []string{to}, Data: data}, stage, code)
	}
	send("u@example.com", testkit.Message("clean", "Pr\u00fcfung of a \x1b[2Jclean one", "x"), testkit.Dot, 250)
	send("u@example.com", testkit.WithAttachment("virus", "with a virus", "eicar.com", []byte(testkit.EICAR())), testkit.Dot, 5)
	send("hold@example.com", testkit.WithAttachment("held", "held", "eicar.com", []byte(testkit.EICAR())), testkit.Dot, 250)
	send("later@example.com", testkit.Message("later", "put off", "x"), testkit.Dot, 250)
	send("nobody@example.com", testkit.Message("nobody", "bounced", "x"), testkit.Dot, 250)
	send("u@elsewhere.test", testkit.Message("relay", "never seen", "x"), "RCPT", 550)

	t.Run("delivered", func(t *testing.T) {
		r := byMessageID(t, g, "clean")
		l := explained(t, g, r.ID, "queued attempt:sent removed")
		r = l.Records[0]
		if r.Action != "accept" || !strings.HasPrefix(r.Reply, "250 2.0.0 queued as "+r.ID) || r.Session.Via != "smtp" || r.Session.Listener != "mx" || r.Generation == "" ||
			!slices.ContainsFunc(r.Asked, func(a struct{ Filter, Result string }) bool { return a.Filter == "clamav" && a.Result == "ok" }) {
			t.Errorf("got %+v", r)
		}
		text := command(t, g, 0, "explain", r.ID).Stdout
		for _, want := range []string{"Decided for the message: deliver", "clamav", "u@example.com: delivered by", "Subject:", "|##"} {
			if !strings.Contains(text, want) {
				t.Errorf("explain lacks %q:\n%s", want, text)
			}
		}
		if strings.ContainsAny(text, "\x1b\x07\r") {
			t.Errorf("W8 an escape reaches the terminal: %q", text)
		}
	})
	t.Run("virus refused", func(t *testing.T) {
		r := byMessageID(t, g, "virus")
		if r.Action != "reject" || r.Stage != "message" || r.Recipients[0].Action != "reject" {
			t.Errorf("got %+v", r)
		}
		var sum string
		for _, p := range r.Inside.Parts {
			if slices.Contains(p.Names, "eicar.com") {
				sum = p.SHA256
			}
		}
		if found := traced(t, g, 2, "--sha256", sum); found[0].MessageID != r.MessageID {
			t.Errorf("by the hash %s: %+v", sum, found)
		}
		explained(t, g, r.ID, "")
	})
	t.Run("held, released", func(t *testing.T) {
		r := byMessageID(t, g, "held")
		l := explained(t, g, r.ID, "held")
		if l.Records[0].Action != "quarantine" {
			t.Errorf("got %+v", l.Records[0])
		}
		command(t, g, 0, "queue", "release", r.ID)
		l = explained(t, g, r.ID, "held asked released attempt:sent removed")
		if l.Events[1].Text != "release" || l.Events[1].By != "root" {
			t.Errorf("who asked: %+v", l.Events[1])
		}
	})
	t.Run("put off, deleted", func(t *testing.T) {
		r := byMessageID(t, g, "later")
		explained(t, g, r.ID, "queued attempt:deferred")
		command(t, g, 0, "queue", "delete", r.ID)
		explained(t, g, r.ID, "queued attempt:deferred asked removed")
	})
	t.Run("bounced", func(t *testing.T) {
		r := byMessageID(t, g, "nobody")
		l := explained(t, g, r.ID, "queued attempt:bounced held notified removed") // nobody takes the notification
		dsn := l.Events[2].ID
		if dsn == r.ID || !strings.Contains(l.Events[2].Text, "our notification") {
			t.Errorf("the notification: %+v", l.Events[2])
		}
		if l := explained(t, g, dsn, l.what()); l.Records[0].ID != r.ID {
			t.Errorf("by the ID of the notification: %+v", l.Records[0])
		}
	})
	t.Run("refused at RCPT", func(t *testing.T) {
		r := traced(t, g, 1, "--to", "u@elsewhere.test")[0]
		if r.Stage != "rcpt" || r.Action != "reject" || !strings.HasPrefix(r.Reply, "550 5.7.1") || r.Recipients[0].Stage != "rcpt" {
			t.Errorf("got %+v", r)
		}
	})
	for _, tt := range []struct {
		want int
		args []string
	}{
		{6, nil}, {6, []string{"--from", "s@sender.test"}}, {6, []string{"--from", "@sender.test"}}, {5, []string{"--domain", "example.com"}},
		{5, []string{"--to", "@example.com"}}, {2, []string{"--to", "U@example.com"}}, {1, []string{"--subject", "PR\u00dcFUNG"}}, {1, []string{"--subject", "th a vir"}},
		{6, []string{"--ip", "127.0.0.0/8"}}, {0, []string{"--ip", "192.0.2.1"}}, {2, []string{"--action", "reject"}}, {3, []string{"--action", "deliver"}}, {1, []string{"--action", "quarantine"}},
		{1, []string{"--stage", "rcpt"}}, {6, []string{"--since", "1h"}}, {0, []string{"--until", "1h"}}, {1, []string{"--virus", "Eicar-Test-Signature", "--action", "reject"}},
	} {
		t.Run("trace "+strings.Join(tt.args, " "), func(t *testing.T) {
			if tt.args != nil && tt.args[0] == "--virus" { // whatever clamd calls it
				r := byMessageID(t, g, "virus")
				for _, f := range r.Findings {
					if f.Name == "virus" {
						tt.args[1] = f.Value
					}
				}
			}
			traced(t, g, tt.want, tt.args...)
		})
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Run("at rest", func(t *testing.T) {
		traced(t, g, 6)
		explained(t, g, byMessageID(t, g, "clean").ID, "queued attempt:sent removed")
		text := command(t, g, 0, "report").Stdout
		for _, want := range []string{"messages: reject 1 1 kB", "messages: deliver 3 ", "refused at RCPT: reject 1 ", "6 s@sender.test"} {
			if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
				t.Errorf("report lacks %q:\n%s", want, text)
			}
		}
		if csv := command(t, g, 0, "report", "--csv").Stdout; !strings.Contains(csv, "senders,s@sender.test,6,,") {
			t.Errorf("CSV:\n%s", csv)
		}
	})
}

// TestHistoryFull: with the disk of the history full, mail goes on; with room
// again, the history does.
func TestHistoryFull(t *testing.T) {
	needRoot(t)
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain, sink.Addr)
	dir := filepath.Join(g.Dir, "history")
	mountTmpfs(t, dir, "4m")
	g.Config.Set("", "history", fmt.Sprintf("%q", "sqlite:"+filepath.Join(dir, "history.db")))
	testkit.Up(t, g)
	sendWant(t, g.Addr, letter(testkit.Message("before", "before", "x")), testkit.Dot, 250)
	traced(t, g, 1)
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	const n = 300
	for i := range n {
		began := time.Now()
		sendWant(t, g.Addr, letter(testkit.Message(fmt.Sprint("full", i), "full", "x")), testkit.Dot, 250)
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("message %d took %v", i, took)
		}
	}
	waitMails(t, sink, n+1)
	testkit.Eventually(t, 60*time.Second, "the log says so", func() bool { return strings.Contains(g.Log(), "history: not written") })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	traced(t, g, n+1)
}

// TestHistoryMilter: the same where an MTA asks.
func TestHistoryMilter(t *testing.T) {
	needRoot(t)
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain, sink.Addr)
	g.UseClamd("unix:"+clamd.Socket, "tempfail")
	g.Config.Set(`policy.for."hold@example.com"`, "virus", `"quarantine"`)
	address := milterSocket(t, g, "inet")
	g.Config.Set("milter.main", "quarantine", `"hold"`)
	g.Config.Set("milter.main", "reinject", fmt.Sprintf("%q", "smtp://"+sink.Addr))
	testkit.Up(t, g)
	port, host, _ := strings.Cut(address, "@")
	postfix := testkit.Up(t, testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "inet:"+host+":"+port))
	send := func(data []byte, code int, to ...string) {
		t.Helper()
		sendWant(t, postfix.Address(), testkit.Letter{From: "s@sender.test", To: to, Data: data}, testkit.Dot, code)
	}
	send(testkit.Message("clean", "clean", "x"), 2, "u@example.com")
	send(testkit.WithAttachment("virus", "virus", "e.com", []byte(testkit.EICAR())), 5, "u@example.com")
	send(testkit.WithAttachment("held", "held", "e.com", []byte(testkit.EICAR())), 2, "hold@example.com")
	for _, tt := range []struct{ id, action, events string }{{"clean", "accept", ""}, {"virus", "reject", ""}, {"held", "quarantine", "held"}} {
		r := byMessageID(t, g, tt.id)
		if r = explained(t, g, r.ID, tt.events).Records[0]; r.Action != tt.action || r.Session.Via != "milter" || r.Session.Listener != "main" || r.Session.Client == "" {
			t.Errorf("%s: got %+v", tt.id, r)
		}
	}
	r := byMessageID(t, g, "held")
	held := explained(t, g, r.ID, "held").Events[0].ID
	command(t, g, 0, "queue", "release", held)
	explained(t, g, held, "held asked released attempt:sent removed")
}

// TestHistoryRescan: what waited for a scanner has two decisions.
func TestHistoryRescan(t *testing.T) {
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	sink := testkit.Up(t, testkit.NewSink())
	g, back := scannerAway(t, binaries.plain, clamd, sink)
	testkit.Up(t, g)
	sendWant(t, g.Addr, letter(testkit.Message("waits", "waits", "x")), testkit.Dot, 250)
	r := byMessageID(t, g, "waits")
	explained(t, g, r.ID, "held")
	back()
	waitMails(t, sink, 1)
	testkit.Eventually(t, 60*time.Second, "it was judged again", func() bool {
		res := command(t, g, 0, "explain", "--json", r.ID)
		var l life
		if err := json.Unmarshal([]byte(res.Stdout), &l); err != nil {
			t.Fatal(err)
		}
		return len(l.Records) == 2 && !l.Records[0].Again && l.Records[0].Action == "quarantine" && l.Records[1].Again && l.Records[1].Action == "accept" &&
			strings.HasPrefix(l.what(), "held held ") && strings.Contains(l.what(), "judged") && strings.HasSuffix(l.what(), "removed")
	})
}
