package web

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gatepost/internal/console"
	"gatepost/internal/history"
)

func reportsPage() page {
	return page{path: "/reports", title: "Reports", nav: true, needs: console.ViewSystem, file: "reports.html", load: (*Server).reports}
}

// reportView is the figures of some days.
type reportView struct {
	Since, Until string // days
	Report       history.Report
	Days         []day
	Tables       []topTable
}

// day sums up one day.
type day struct {
	Day                                   string
	Accepted, Held, Refused, Later, Other int
	Bytes                                 int64
}

type topTable struct {
	Title string
	Word  string // of the search box
	Rows  []history.Named
}

func (s *Server) reports(r *http.Request) (any, error) {
	since, until, err := days(r, time.Now())
	if err != nil {
		return nil, err
	}
	v := reportView{Since: since.Format(time.DateOnly), Until: until.AddDate(0, 0, -1).Format(time.DateOnly)}
	if v.Report, err = s.api.History().Report(r.Context(), since, until, 10); err != nil {
		return nil, err
	}
	v.Days = sumDays(v.Report.Hours)
	v.Tables = []topTable{
		{"Senders", "from", v.Report.Senders}, {"Recipients", "to", v.Report.Recipients}, {"Clients", "ip", v.Report.Clients},
		{"Viruses", "virus", v.Report.Viruses}, {"Rules", "rule", v.Report.Rules},
	}
	return v, nil
}

// days reads the days of the form, the last week where there is none.
func days(r *http.Request, now time.Time) (since, until time.Time, err error) {
	y, m, d := now.Date()
	until = time.Date(y, m, d+1, 0, 0, 0, 0, now.Location())
	since = until.AddDate(0, 0, -7)
	for name, t := range map[string]*time.Time{"since": &since, "until": &until} {
		text := r.FormValue(name)
		if text == "" {
			continue
		}
		if *t, err = time.ParseInLocation(time.DateOnly, text, now.Location()); err != nil {
			return since, until, &badInput{strconv.Quote(text) + " is no day; write one like 2026-11-21."}
		}
		if name == "until" {
			until = until.AddDate(0, 0, 1)
		}
	}
	if !since.Before(until) || until.Sub(since) > 400*24*time.Hour {
		return since, until, &badInput{"The first day must not be behind the last one, and not more than 400 days before it."}
	}
	return since, until, nil
}

func sumDays(hours []history.Bucket) (all []day) {
	for _, h := range hours {
		name := h.Hour.Local().Format(time.DateOnly)
		if len(all) == 0 || all[len(all)-1].Day != name {
			all = append(all, day{Day: name})
		}
		d := &all[len(all)-1]
		switch h.Action {
		case "accept", "continue":
			d.Accepted += h.Count
		case "quarantine":
			d.Held += h.Count
		case "reject":
			d.Refused += h.Count
		case "tempfail":
			d.Later += h.Count
		default:
			d.Other += h.Count
		}
		d.Bytes += h.Bytes
	}
	return all
}

// reportCSV is the report for a spreadsheet.
func (s *Server) reportCSV(w http.ResponseWriter, r *http.Request) {
	data, err := s.reports(r)
	if err != nil {
		http.Error(w, err.Error(), codeOf(err))
		return
	}
	v := data.(reportView)
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="gatepost-`+v.Since+`.csv"`)
	out := csv.NewWriter(w)
	write := func(cells ...string) {
		for i, c := range cells {
			cells[i] = safeCell(c)
		}
		_ = out.Write(cells) // the browser may be gone
	}
	write("day", "accepted", "held", "refused", "put off", "dropped", "bytes")
	for _, d := range v.Days {
		write(d.Day, strconv.Itoa(d.Accepted), strconv.Itoa(d.Held), strconv.Itoa(d.Refused), strconv.Itoa(d.Later), strconv.Itoa(d.Other), strconv.FormatInt(d.Bytes, 10))
	}
	for _, t := range v.Tables {
		write()
		write(t.Title, "messages")
		for _, row := range t.Rows {
			write(row.Name, strconv.Itoa(row.Count))
		}
	}
	out.Flush()
}

// safeCell keeps a spreadsheet from taking a stranger's text for a formula.
func safeCell(s string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " "))
	if s != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + s
	}
	return s
}
