package digest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"gatepost/internal/state"
)

// page is what the confirmation page shows.
type page struct {
	Title, Say, Rcpt, Hostname string
	Rows                       []row
	All                        string
}

// Handler is the pages that links lead to, below /held/. They need no login: a
// link is for one recipient. GET and HEAD never do anything, as programs that
// look into mail follow links.
func (d *Digests) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /held/style.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		http.ServeFileFS(w, r, files, "templates/style.css")
	})
	mux.HandleFunc("GET /held/{ticket}", d.ask)
	mux.HandleFunc("POST /held/{ticket}", d.act)
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer") // the path is the secret
		h.Set("X-Robots-Tag", "noindex")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
		guarded.ServeHTTP(w, r)
	})
}

// What is said of links that can't be used.
const (
	sayBad  = "This link is not complete, or not one of ours. Open the mail again and follow the link there, or copy all of it."
	sayOld  = "This link has ended. The next mail about held messages has fresh ones; if you need the message now, ask your mail administrator."
	sayUsed = "This was done already: each link works once."
	sayGone = "The message is not held any more: it was released or deleted before, or kept for as long as held mail is."
	sayFail = "That could not be done now. Please try again in a few minutes."
)

// ticket reads the link of a request; one that is no good is answered.
func (d *Digests) ticket(w http.ResponseWriter, r *http.Request) (t ticket, text string, ok bool) {
	text = r.PathValue("ticket")
	t, err := d.keys.open(text, d.deps.Now())
	switch {
	case errors.Is(err, errOldTicket):
		d.show(w, http.StatusGone, page{Title: "This link has ended", Say: sayOld})
	case errors.Is(err, errBadTicket):
		d.show(w, http.StatusNotFound, page{Title: "This link does not work", Say: sayBad})
	case err != nil:
		d.deps.Log.ErrorContext(r.Context(), "digest", "error", err)
		d.show(w, http.StatusServiceUnavailable, page{Title: "Not now", Say: sayFail})
	default:
		return t, text, true
	}
	return ticket{}, "", false
}

// ask shows what a link is for, with a button.
func (d *Digests) ask(w http.ResponseWriter, r *http.Request) {
	t, text, ok := d.ticket(w, r)
	if !ok {
		return
	}
	if t.action == List {
		d.showAll(w, t)
		return
	}
	it, ok := d.find(t)
	if !ok {
		d.show(w, http.StatusGone, page{Title: "Nothing left to do", Say: sayGone, Rcpt: t.rcpt.String()})
		return
	}
	shown := d.row(&it)
	shown.Links = []link{{labels[t.action], "/held/" + text}}
	d.show(w, http.StatusOK, page{Title: questions[t.action], Say: explained[t.action], Rows: []row{shown}, Rcpt: t.rcpt.String()})
}

var questions = map[Action]string{
	Release: "Release this message?", Delete: "Delete this message?", Allow: "Always allow this sender?", Block: "Always block this sender?",
}

var explained = map[Action]string{
	Release: "It is delivered to you, and to nobody else.",
	Delete:  "You will not get it, and its sender is not told.",
	Allow:   "Messages of this sender to you are not held as spam any more. This one stays held until you release it.",
	Block:   "Messages of this sender to you are held from now on. This one stays as it is.",
}

var doneTitles = map[Action]string{
	Release: "Released: it is on its way to you", Delete: "Deleted", Allow: "The sender is allowed", Block: "The sender is blocked",
}

// find returns the message of a ticket, while it is held for its recipient and
// may be acted on by it.
func (d *Digests) find(t ticket) (Item, bool) {
	it, ok := d.deps.Quarantine.Find(t.id)
	if !ok || !it.heldFor(t.rcpt) {
		return Item{}, false
	}
	for _, a := range offered(&it) {
		if a == t.action {
			return it, true
		}
	}
	return Item{}, false
}

// mostShown are listed on a page.
const mostShown = 200

// showAll lists what is held for a recipient, with fresh links that end with the
// one that led here.
func (d *Digests) showAll(w http.ResponseWriter, t ticket) {
	p := page{Title: "Your held mail", Rcpt: t.rcpt.String()}
	items := d.boxOf(t.rcpt).items
	if len(items) == 0 {
		p.Say = "Nothing is held for you."
	} else if len(items) > mostShown {
		p.Say = "These are the newest; there are more."
	}
	for _, it := range items[:min(len(items), mostShown)] {
		shown := d.row(it)
		for _, a := range offered(it) {
			signed, err := d.keys.sign(ticket{a, it.ID, t.rcpt, t.until}, d.deps.Now())
			if err != nil {
				d.deps.Log.Error("digest", "error", err)
				d.show(w, http.StatusServiceUnavailable, page{Title: "Not now", Say: sayFail})
				return
			}
			shown.Links = append(shown.Links, link{labels[a], "/held/" + signed})
		}
		p.Rows = append(p.Rows, shown)
	}
	d.show(w, http.StatusOK, p)
}

// actTime bounds one action: it goes on when the browser is gone.
const actTime = 30 * time.Second

// act does what a link is for, once.
func (d *Digests) act(w http.ResponseWriter, r *http.Request) {
	t, text, ok := d.ticket(w, r)
	if !ok {
		return
	}
	if t.action == List {
		http.Error(w, "a list is only looked at", http.StatusMethodNotAllowed)
		return
	}
	p := page{Rcpt: t.rcpt.String()}
	if signed, err := d.keys.sign(ticket{List, "", t.rcpt, t.until}, d.deps.Now()); err == nil {
		p.All = "/held/" + signed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actTime)
	defer cancel()
	left := t.until.Sub(d.deps.Now()) + time.Hour
	place, me := used(text), hex.EncodeToString(random(8))
	_, before, err := d.deps.Store.Get(ctx, state.Tickets, place)
	var entered bool
	if err == nil && !before {
		_, entered, err = d.deps.Store.Enter(ctx, place, me, 1, left)
	}
	switch {
	case err != nil:
		d.deps.Log.ErrorContext(ctx, "digest: whether a link was used can't be told", "error", err)
		p.Title, p.Say = "Not now", sayFail
		d.show(w, http.StatusServiceUnavailable, p)
		return
	case !entered:
		p.Title, p.Say = "Done before", sayUsed
		d.show(w, http.StatusConflict, p)
		return
	}
	if _, ok := d.find(t); !ok {
		p.Title, p.Say = "Nothing left to do", sayGone
		d.show(w, http.StatusGone, p)
		return
	}
	if err := d.deps.Quarantine.Do(ctx, t.action, t.id, t.rcpt, peer(r)); err != nil {
		d.deps.Log.ErrorContext(ctx, "digest: not done", "action", t.action, "id", t.id, "recipient", t.rcpt.String(), "error", err)
		_ = d.deps.Store.Leave(ctx, place, me) // at worst the link is used up
		p.Title, p.Say = "Not now", sayFail
		d.show(w, http.StatusServiceUnavailable, p)
		return
	}
	if err := d.deps.Store.Put(ctx, state.Tickets, place, string(t.action), left); err != nil {
		d.deps.Log.WarnContext(ctx, "digest: that a link was used is not kept", "error", err)
	}
	p.Title = doneTitles[t.action]
	d.show(w, http.StatusOK, p)
}

func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (d *Digests) show(w http.ResponseWriter, code int, p page) {
	p.Hostname = d.cfg.Load().Hostname
	p.Rcpt = strings.TrimSpace(p.Rcpt)
	var b bytes.Buffer
	if err := d.view.write(&b, "page.html", p); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // the browser may be gone
}
