package web

import (
	"net/http"

	"gatepost/internal/console"
)

func filtersPage() page {
	return page{path: "/filters", title: "Filters", nav: true, live: true, needs: console.ViewSystem, file: "filters.html", load: (*Server).filters}
}

// filterView is one filter with the scanner behind it.
type filterView struct {
	console.FilterHealth
	Daemon *console.Daemon // nil: it does not tell
	Means  string          // what on_error means, in words
}

type filtersView struct {
	Health  console.Health
	Filters []filterView
}

func (s *Server) filters(r *http.Request) (any, error) {
	h, err := s.api.Health(r.Context())
	if err != nil {
		return nil, err
	}
	status, err := s.api.Status(r.Context())
	if err != nil {
		return nil, err
	}
	v := filtersView{Health: h}
	for _, f := range h.Filters {
		one := filterView{FilterHealth: f, Means: failureWords(f.OnError)}
		for _, d := range status.Daemons {
			if d.Filter == f.Name {
				one.Daemon = &d
			}
		}
		v.Filters = append(v.Filters, one)
	}
	return v, nil
}
