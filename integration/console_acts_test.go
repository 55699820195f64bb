package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"gatepost/internal/testkit"
)

// walkQuarantine does what is done with held mail.
func walkQuarantine(t *testing.T, s *site, b *tab) {
	b.open("/quarantine?kind=spam")
	b.shows("You have won", "You have won again", "spam")
	if text := b.text(); strings.Contains(text, "Your other parcel") || strings.Contains(text, "Invoice") {
		t.Errorf("not only spam:\n%s", text)
	}
	before := len(s.sink.Mails())
	b.open("/quarantine/" + s.ids["spam"])
	b.press("button[value=learn-ham]")
	b.shows("1 of 1 learned as wanted")
	b.press("button[value=release]")
	b.shows("1 of 1 released")
	mails := waitMails(t, s.sink, before+1)
	if got := mails[len(mails)-1]; strings.Join(got.To, " ") != "<u@example.com>" || !strings.Contains(string(got.Data), "You have won") {
		t.Errorf("released to %v:\n%s", got.To, got.Data)
	}
	b.comes("/message/"+s.ids["spam"], "Released", "alice")

	// A virus needs a word.
	b.open("/quarantine/" + s.ids["heldvirus"])
	b.press("button[value=release]")
	b.shows("Nothing was done", "with an approval")
	b.open("/quarantine/" + s.ids["heldvirus"])
	b.set("[name=approve]", "a sample for the lab")
	b.press("button[value=release]")
	b.shows("1 of 1 released")
	waitMails(t, s.sink, before+2)

	// Deleting is asked for once more.
	b.open("/quarantine?subject=won+again")
	eval[bool](b, "document.querySelector('input[name=id]').checked = true")
	b.press("button[value=delete]")
	b.shows("Deleted for good", "You have won again", "u@example.com")
	b.press("button.danger")
	b.shows("1 of 1 deleted")
	if text := b.text(); strings.Contains(text, "You have won again") {
		t.Errorf("it is still there:\n%s", text)
	}

	b.open("/quarantine/" + s.ids["foreign"])
	b.press("button[value=block]")
	b.shows("1 of 1 blocked")
	b.open("/audit")
	b.shows("quarantine release", "alice", "a sample for the lab", "quarantine delete")
}

// walkKeyboard logs nobody in and finds everything without a mouse.
func walkKeyboard(t *testing.T, s *site, b *tab) {
	b.open("/")
	focus := func() string {
		return eval[string](b, "(() => { const e = document.activeElement; return e.tagName + ' ' + (e.innerText || e.name || e.getAttribute('aria-label') || '').trim() })()")
	}
	next := func() string { b.do(chromedp.KeyEvent(kb.Tab)); return focus() }
	if first := next(); first != "A Skip to the content" {
		t.Errorf("the first stop is %q", first)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	if at := eval[string](b, "location.hash"); at != "#content" {
		t.Errorf("the skip leads to %q", at)
	}
	b.open("/queue")
	var stops []string
	for range 60 {
		stops = append(stops, next())
		if strings.HasPrefix(stops[len(stops)-1], "BODY") {
			break
		}
		if ring := eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"); ring == "none" {
			t.Errorf("%s shows no focus", stops[len(stops)-1])
		}
	}
	all := strings.Join(stops, "|")
	for _, want := range []string{"A Overview", "A Tracking", "A Quarantine", "INPUT sender", "SELECT all", "BUTTON Show", "BUTTON Log out", "INPUT id"} {
		if !strings.Contains(all, want) {
			t.Errorf("the keyboard does not reach %q: %s", want, all)
		}
	}
	b.open("/tracking")
	b.do(chromedp.KeyEvent("Minutes")) // the box has the focus
	b.load(chromedp.KeyEvent(kb.Enter))
	b.shows("Minutes of Monday")
	b.do(chromedp.Focus(chromedp.CSS("td[data-label=Time] a")))
	b.load(chromedp.KeyEvent(kb.Enter))
	b.shows("What the filters took", s.ids["clean"])
}

// walkRules changes a rule file: first on mail that came, then for good, and back.
func walkRules(t *testing.T, s *site, b *tab) {
	b.open("/rules")
	b.shows("no-invoices", "1 that never matched", "Generation 1")
	b.open("/rules/rehearse")
	b.press(".filter button")
	b.shows("None of", "would end in another way")

	edited := strings.Replace(consoleRules, `"Invoice"`, `"Minutes"`, 1)
	if err := os.WriteFile(s.rules, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open("/rules/rehearse")
	b.press(".filter button")
	b.shows("would end in another way", "no-invoices", "Minutes of Monday", "Invoice 4711", "clean@sender.test")
	b.shot("rehearsal-desk")
	b.set("[name=reason]", "SEC-1: minutes are secret")
	b.press(".row button")
	b.shows("Generation 2 is in use", "SEC-1: minutes are secret", "changed: "+s.rules, "alice")
	b.shot("rules-applied-desk")
	sendWant(t, s.Addr, letter(testkit.Message("after", "Minutes of Tuesday", "Hello.")), testkit.Dot, 250)
	if r := byMessageID(t, s.Gateway, "after"); r.Action != "quarantine" {
		t.Errorf("after the change: %+v", r)
	}

	// What is wrong is refused whole.
	if err := os.WriteFile(s.rules, []byte(edited+"\n[[rule]]\nname = \"bad\"\nwhen = 'subjct == 1'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open("/rules")
	b.set("[name=reason]", "a typing mistake")
	if code := b.press(".row button"); code != 422 {
		t.Errorf("a bad rule: %d", code)
	}
	b.shows("subjct", s.rules+":")

	b.open("/rules")
	b.shows("refused", "a typing mistake")
	eval[bool](b, "document.querySelectorAll('td details').forEach(d => d.open = true) || true")
	b.set("td form [name=reason]", "it was a mistake")
	b.press("td form button")
	b.shows("is in use", "it was a mistake")
	if err := os.WriteFile(s.rules, []byte(consoleRules), 0o644); err != nil {
		t.Fatal(err)
	}
	sendWant(t, s.Addr, letter(testkit.Message("back", "Minutes of Wednesday", "Hello.")), testkit.Dot, 250)
	if r := byMessageID(t, s.Gateway, "back"); r.Action != "accept" {
		t.Errorf("after going back: %+v", r)
	}
}
