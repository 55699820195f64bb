package web

import (
	"net/http"

	"gatepost/internal/console"
)

func usersPage() page {
	return page{path: "/users", title: "Users", nav: true, needs: console.AdministerIt, file: "users.html", load: (*Server).users}
}

// userView is somebody who may log in, or may only send.
type userView struct {
	console.User
	Sessions int // that are open now
}

func (s *Server) users(r *http.Request) (any, error) {
	all, err := s.api.Users(r.Context())
	if err != nil {
		return nil, err
	}
	open := s.sessions.count()
	var list []userView
	for _, u := range all {
		list = append(list, userView{u, open[u.Name]})
	}
	return list, nil
}
