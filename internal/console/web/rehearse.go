package web

import (
	"net/http"
	"time"

	"gatepost/internal/console"
)

// A rehearsal shows what recorded mail would have become under the rules that lie
// on the disk, before they are in use.

func rehearsalPage() page {
	return page{path: "/rules/rehearse", title: "Rehearsal", needs: console.EditRules, file: "rehearsal.html", load: (*Server).rehearsalForm}
}

// rehearsalView is what came of it.
type rehearsalView struct {
	Days   string
	Choice []string // of Days
	Report *rehearsalReport
}

// rehearsalReport is what the API says.
type rehearsalReport struct {
	Old       string             `json:"old"`
	New       string             `json:"new"`
	Records   int                `json:"records"`
	Differing int                `json:"differing"`
	Groups    []rehearsalGroup   `json:"groups"`
	Omitted   int                `json:"omitted"`
	Unknown   []rehearsalUnknown `json:"unknown"`
	Notes     []string           `json:"notes"`
	Took      float64            `json:"took_seconds"`
}

type rehearsalGroup struct {
	Rule       string             `json:"rule"`
	Where      string             `json:"where"`
	Old        string             `json:"old"`
	New        string             `json:"new"`
	Records    int                `json:"records"`
	Recipients int                `json:"recipients"`
	Examples   []rehearsalExample `json:"examples"`
}

type rehearsalExample struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
}

type rehearsalUnknown struct {
	What    string `json:"what"`
	Records int    `json:"records"`
}

// rehearsalDays are how far back can be gone.
var rehearsalDays = map[string]time.Duration{"1 day": day1, "7 days": 7 * day1, "30 days": 30 * day1}

const day1 = 24 * time.Hour

func newRehearsalView(days string) rehearsalView {
	if rehearsalDays[days] == 0 {
		days = "7 days"
	}
	return rehearsalView{Days: days, Choice: []string{"1 day", "7 days", "30 days"}}
}

func (s *Server) rehearsalForm(*http.Request) (any, error) { return newRehearsalView(""), nil }

// rehearsalTime is how long one may take.
const rehearsalTime = 10 * time.Minute

// rehearse answers the form with the page that tells the differences. It changes
// nothing, but takes its time: so it is no GET.
func (s *Server) rehearse(w http.ResponseWriter, r *http.Request) {
	p := rehearsalPage()
	if !s.may(w, r, p) {
		return
	}
	if !s.hasToken(r) {
		s.fail(w, r, p, errOldForm)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(rehearsalTime))
	v := newRehearsalView(r.FormValue("days"))
	v.Report = new(rehearsalReport)
	err := s.api.Rehearse(r.Context(), console.Rehearsal{Since: time.Now().Add(-rehearsalDays[v.Days])}, v.Report)
	if err != nil {
		s.fail(w, r, p, err)
		return
	}
	s.views.execute(w, http.StatusOK, p.file, s.frame(r, p, v))
}
