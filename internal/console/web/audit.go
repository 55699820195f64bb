package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/console/audit"
)

func auditPage() page {
	return page{path: "/audit", title: "Audit", nav: true, needs: console.AdministerIt, file: "audit.html", load: (*Server).audit}
}

// auditView is who did what, the newest first.
type auditView struct {
	Query   url.Values
	Entries []audit.Entry
	Older   string // the next page; "" when there is none
}

func (s *Server) audit(r *http.Request) (any, error) {
	v := auditView{Query: r.URL.Query()}
	get := func(name string) string { return strings.TrimSpace(v.Query.Get(name)) }
	q := audit.Query{Who: get("who"), ID: get("id"), What: get("what"), Limit: perPage}
	if before := get("before"); before != "" {
		t, err := time.Parse(time.RFC3339Nano, before)
		if err != nil {
			return nil, &badInput{"This is no page of the audit."}
		}
		q.Before = t
	}
	var err error
	if v.Entries, err = s.api.Audit(r.Context(), q); err != nil {
		return nil, err
	}
	if len(v.Entries) == perPage {
		older := url.Values{"before": {v.Entries[perPage-1].Time.Format(time.RFC3339Nano)}}
		for _, name := range []string{"who", "id", "what"} {
			if text := get(name); text != "" {
				older.Set(name, text)
			}
		}
		v.Older = "/audit?" + older.Encode()
	}
	return v, nil
}
