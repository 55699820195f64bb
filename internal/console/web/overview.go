package web

import (
	"errors"
	"net/http"
	"time"

	"gatepost/internal/console"
)

func overviewPage() page {
	return page{path: "/{$}", title: "Overview", nav: true, live: true, needs: console.ViewMail, file: "overview.html", load: (*Server).overview}
}

// overviewView is what the first page shows. Who does not view the system gets
// the first two only.
type overviewView struct {
	Status console.Status
	Lanes  []string
	Now    time.Time

	Health  *console.Health
	Trouble []string // what somebody should look at, in words
	Chart   *chart   // nil: nothing is recorded
	Ranges  []rangeLink
}

type rangeLink struct {
	Name, Path string
	Here       bool
}

func (s *Server) overview(r *http.Request) (any, error) {
	status, err := s.api.Status(r.Context())
	v := overviewView{Status: status, Lanes: console.Lanes(), Now: time.Now()}
	if err != nil || !console.IdentityOf(r.Context()).May(console.ViewSystem) {
		return v, err
	}
	h, err := s.api.Health(r.Context())
	switch {
	case err == nil:
		v.Health, v.Trouble = &h, trouble(status, h, v.Now)
	case !isMissing(err):
		return nil, err
	}
	span := spanOf(r.FormValue("range"))
	for _, other := range spans() {
		v.Ranges = append(v.Ranges, rangeLink{other.name, "/?range=" + other.name, other.name == span.name})
	}
	since := span.begin(v.Now)
	report, err := s.api.History().Report(r.Context(), since, v.Now.Add(time.Second), 0)
	switch {
	case err == nil:
		v.Chart = newChart(report.Hours, span, since, v.Now)
	case !isMissing(err):
		return nil, err
	}
	return v, nil
}

// isMissing reports whether the gateway has no such thing: it was not set up.
func isMissing(err error) bool {
	var refused *console.Refusal
	return errors.As(err, &refused) && refused.Status == http.StatusNotFound
}

// Certificates and mail that are worth a word.
const (
	certificateSoon = 21 * 24 * time.Hour
	mailOld         = 4 * time.Hour
)

// trouble says in sentences what somebody should look at.
func trouble(status console.Status, h console.Health, now time.Time) (all []string) {
	for _, f := range h.Filters {
		if f.Down {
			all = append(all, "The filter "+f.Name+" does not answer: "+failureWords(f.OnError)+".")
		}
	}
	for _, d := range status.Daemons {
		if d.Late {
			all = append(all, "The signatures of "+d.Filter+" are old: is freshclam running?")
		}
	}
	for _, hop := range h.NextHops {
		if hop.Failures > 0 {
			text := "The next hop " + hop.Name + " can't be reached"
			if hop.Reply != "" {
				text += ": " + hop.Reply
			}
			all = append(all, text)
		}
	}
	for _, l := range h.Lists {
		if l.Down {
			all = append(all, "The DNS list "+l.Name+" is switched off: it does not answer as it should.")
		}
	}
	for _, c := range h.Certificates {
		switch left := c.Ends.Sub(now); {
		case left < 0:
			all = append(all, "The certificate of "+c.Name+" has ended.")
		case left < certificateSoon:
			all = append(all, "The certificate of "+c.Name+" ends in "+age(left)+".")
		}
	}
	for _, l := range h.Lanes {
		if l.Lane != console.Held && l.Messages > 0 && now.Sub(l.Oldest) > mailOld {
			all = append(all, "Mail waits in the lane "+l.Lane+" since "+age(now.Sub(l.Oldest))+".")
		}
	}
	if status.State.Away != "" {
		all = append(all, "The store "+status.State.Name+" is away, this gateway decides alone: "+status.State.Away)
	}
	return all
}

// failureWords says what on_error means for mail.
func failureWords(onError string) string {
	switch onError {
	case "continue":
		return "mail passes without it"
	case "hold":
		return "mail is held until it is back"
	case "refuse", "tempfail":
		return "mail is put off until it is back"
	case "reject":
		return "mail is refused"
	case "quarantine":
		return "mail goes to the quarantine"
	}
	return "mail is treated as on_error = " + onError + " says"
}
