package web

import (
	"net/http"

	"gatepost/internal/console"
)

func overviewPage() page {
	return page{path: "/{$}", title: "Overview", nav: true, needs: console.ViewMail, file: "overview.html", load: (*Server).overview}
}

// overviewView is what the first page shows.
type overviewView struct {
	Status console.Status
	Lanes  []string
}

func (s *Server) overview(r *http.Request) (any, error) {
	status, err := s.api.Status(r.Context())
	return overviewView{status, console.Lanes()}, err
}
