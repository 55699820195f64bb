package integration

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// The console in a real browser, on a gateway with real traffic.
func TestConsole(t *testing.T) {
	testkit.Program(t, "chromium", "chromium")
	s := newSite(t)
	browser := chromium(t)
	alice := newTab(t, browser, s.Gateway)
	alice.looks(1280, 900, "light")
	alice.login("alice")
	for _, step := range []struct {
		name string
		walk func(*testing.T, *site, *tab)
	}{
		{"search", walkSearch},
		{"explain", walkMessage},
		{"queue", walkQueue},
		{"test a message", walkTrial},
		{"reports", walkReports},
		{"hostile", walkHostile},
		{"keyboard", walkKeyboard},
		{"pictures", walkPictures},
		{"accessible", accessible},
		{"other sites", otherSites},
		{"other people", otherPeople},
		{"fixation", fixation},
		{"quarantine", walkQuarantine},
		{"rules", walkRules},
	} {
		t.Run(step.name, func(t *testing.T) {
			alice.t = t
			step.walk(t, s, alice)
			alice.quiet(step.name)
		})
		alice.t = t
	}
}

// pages are the paths of all of them.
func (s *site) pages() map[string]string {
	return map[string]string{
		"overview": "/", "tracking": "/tracking?q=sender.test", "tracking-all": "/tracking", "message": "/message/" + s.ids["clean"], "message-hostile": "/message/" + s.ids["hostile"],
		"message-virus": "/message/" + s.ids["virus"], "message-deferred": "/message/" + s.ids["deferred"], "content": "/content/" + s.ids["hostile"],
		"quarantine": "/quarantine", "held": "/quarantine/" + s.ids["hostile"], "held-spam": "/quarantine/" + s.ids["spam2"], "filters": "/filters", "settings": "/settings", "audit": "/audit", "users": "/users", "rules": "/rules", "rehearsal": "/rules/rehearse", "sure": "/quarantine/sure?id=" + s.ids["spam"],
		"queue": "/queue", "test": "/test", "reports": "/reports", "tracking-held": "/tracking?q=is:held",
	}
}

// walkSearch looks for mail as a helpdesk does.
func walkSearch(t *testing.T, s *site, b *tab) {
	for _, tt := range []struct{ words, found, not string }{
		{"Minutes", "Minutes of Monday", "You have won"},
		{"later@example.com", "For a full mailbox", "Minutes"},
		{"is:refused", "Your parcel", "Minutes"},
		{"is:held from:spam@sender.test", "You have won", "again"},
		{"<clean@sender.test>", "Minutes of Monday", "won"},
		{"127.0.0.1 subject:Plans", "Plans for two", "Minutes"},
		{`subject:"You have won again"`, "You have won again", "Minutes"},
		{"since:1h is:accepted", "Minutes of Monday", "Your parcel"},
		{s.ids["spam"], "You have won", "Minutes"},
		{"until:2001-01-01", "Nothing was found", "Minutes"},
		{"is:purple", "nothing that mail can be", "Minutes"},
	} {
		b.open("/tracking")
		b.set("#q", tt.words)
		b.press(".search button")
		if text := b.text(); !strings.Contains(text, tt.found) || strings.Contains(text, tt.not) {
			t.Errorf("%q: want %q and no %q:\n%s", tt.words, tt.found, tt.not, text)
		}
	}
}

// walkMessage follows a search to the life of a message.
func walkMessage(t *testing.T, s *site, b *tab) {
	b.open("/tracking?q=Minutes")
	b.press("td[data-label=Time] a")
	b.shows("accept", "Minutes of Monday", "clean@sender.test", "clamav", "spamassassin", "Delivered for u@example.com", "127.0.0.1")
	if n := eval[int](b, "document.querySelectorAll('.bars rect').length"); n < 2 {
		t.Errorf("%d bars", n)
	}
	b.open("/message/" + s.ids["virus"])
	b.shows("Refused", "virus", "Eicar", "554 5.7.1")
	b.open("/message/" + s.ids["deferred"])
	b.shows("still here", "mailbox full", "will be again")
	b.open("/message/" + s.ids["invoice"])
	b.shows("no-invoices", s.rules+":", "Held")
	if code := b.open("/message/0twxBql9TCSMww3KG33XtS"); code != 404 {
		t.Errorf("a message that never was: %d", code)
	}
}

func walkQueue(_ *testing.T, s *site, b *tab) {
	b.open("/queue?lane=retry")
	b.shows("For a full mailbox", "mailbox full", s.ids["deferred"])
	b.open("/queue?recipient=nobody@example.com")
	b.shows("No message is waiting that fits")
}

// walkTrial has messages judged.
func walkTrial(t *testing.T, s *site, b *tab) {
	b.open("/test")
	judge := func(fields map[string]string) {
		for sel, v := range fields {
			b.set(sel, v)
		}
		b.press("form.sheet button")
	}
	judge(map[string]string{"[name=client]": "192.0.2.7", "[name=helo]": "mail.sender.test", "[name=sender]": "x@sender.test", "[name=recipients]": "u@example.com, v@example.com",
		"[name=message]": string(testkit.Message("trial", "Only a test", testkit.GTUBE()))})
	b.shows("Held", "GTUBE", "Only a test", "192.0.2.7", "v@example.com")
	if got := eval[string](b, "document.querySelector('[name=recipients]').value"); got != "u@example.com, v@example.com" {
		t.Errorf("the form forgot its recipients: %q", got)
	}
	judge(map[string]string{"[name=recipients]": "u@example.com", "[name=message]": string(testkit.Message("trial", "Only a test", testkit.EICAR()))})
	b.shows("Refused", "Eicar")
	judge(map[string]string{"[name=message]": string(testkit.Message("trial", "Only a test", "Hello."))})
	b.shows("Accepted")
	judge(map[string]string{"[name=recipients]": "void@example.com"})
	b.shows("Refused", s.rules+":", "550 5.7.1 Nobody reads this <script>alert(5)</script>")
	judge(map[string]string{"[name=client]": "not an address"})
	b.shows("is no address")
	if held := command(t, s.Gateway, 0, "queue", "list", "--json").Stdout; strings.Contains(held, "Only a test") {
		t.Error("a test is in the queue")
	}
	if all := traced(t, s.Gateway, 0, "--subject", "Only a test"); len(all) > 0 {
		t.Error("a test is in the history")
	}
}

func walkReports(t *testing.T, s *site, b *tab) {
	b.open("/reports")
	b.shows("Eicar", "u@example.com", "no-invoices")
	csv := eval[string](b, `fetch(document.querySelector('a[href^="/reports.csv"]').href).then(r => r.text())`)
	if !strings.Contains(csv, "accepted,held") || !strings.Contains(csv, "u@example.com,") {
		t.Errorf("csv:\n%s", csv)
	}
}

// walkHostile looks at what strangers wrote: it is shown as it is written, and
// does nothing.
func walkHostile(t *testing.T, s *site, b *tab) {
	id := s.ids["hostile"]
	for _, path := range []string{"/tracking?q=subject:HOSTILE", "/message/" + id, "/queue", "/quarantine", "/quarantine/" + id, "/content/" + id, "/tracking?q=%3Cscript%3Ealert(1)%3C/script%3E"} {
		b.open(path)
		b.shows("<script>alert(1)</script>")
		b.quiet(path)
	}
	b.open("/message/" + id)
	b.shows(hostileVirus, "alert(3)")
	for _, path := range []string{"/reports", "/quarantine", "/tracking?q=is:held"} {
		b.open(path)
		b.shows(hostileVirus)
		b.quiet(path)
	}
	b.open("/content/" + id)
	frame := eval[string](b, `fetch(document.querySelector("iframe").src).then(async r => r.headers.get("content-security-policy") + " " + await r.text())`)
	for _, word := range []string{"Visible words.", "default-src 'none'", "sandbox"} {
		if !strings.Contains(frame, word) {
			t.Errorf("no %q in the frame:\n%s", word, frame)
		}
	}
	for _, word := range []string{"canary", "javascript:", "onerror", "<form", "<img", "<script", "<style", "href", "<input", "unsafe"} {
		if strings.Contains(frame, word) {
			t.Errorf("%q in the frame:\n%s", word, frame)
		}
	}
	download := eval[string](b, fmt.Sprintf(`fetch("/content/%s/raw").then(r => r.headers.get("content-disposition") + "|" + r.headers.get("content-type") + "|" + r.headers.get("x-content-type-options"))`, id))
	if want := `attachment; filename="` + id + `.eml"|application/octet-stream|nosniff`; download != want {
		t.Errorf("download: %s, want %s", download, want)
	}
}

// walkPictures is for people: it looks at each page in four ways.
func walkPictures(t *testing.T, s *site, b *tab) {
	for _, look := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"desk", 1280, 900, "light"}, {"desk-dark", 1280, 900, "dark"}, {"phone", 390, 844, "light"}, {"phone-dark", 390, 844, "dark"}} {
		b.looks(look.width, look.height, look.scheme)
		for name, path := range s.pages() {
			if code := b.open(path); code != 200 {
				t.Errorf("%s: %d", path, code)
			}
			if wide := eval[int](b, "document.documentElement.scrollWidth - window.innerWidth"); wide > 0 {
				t.Errorf("%s on %s is %d pixels too wide", path, look.name, wide)
			}
			b.shot(name + "-" + look.name)
		}
	}
	b.looks(1280, 900, "light")
}
