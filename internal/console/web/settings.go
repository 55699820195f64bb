package web

import (
	"net/http"
	"strings"

	"gatepost/internal/console"
)

func settingsPage() page {
	return page{path: "/settings", title: "Settings", nav: true, needs: console.ViewSystem, file: "settings.html", load: (*Server).settings}
}

// settingsView is the configuration in use, by sections.
type settingsView struct {
	Words    string // what was searched for
	Own      bool   // only what the file sets
	Sections []section
	Hidden   int // keys that are not shown
}

type section struct {
	Name string // "" for the top level
	Keys []settingView
}

type settingView struct {
	console.Setting
	Last string // the key without its section
}

func (s *Server) settings(r *http.Request) (any, error) {
	all, err := s.api.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	v := settingsView{Words: strings.TrimSpace(r.FormValue("q")), Own: r.FormValue("own") != ""}
	for _, one := range all {
		if v.Own && one.File == "" || !strings.Contains(strings.ToLower(one.Key), strings.ToLower(v.Words)) {
			v.Hidden++
			continue
		}
		name, last := one.Split()
		if n := len(v.Sections); n == 0 || v.Sections[n-1].Name != name {
			v.Sections = append(v.Sections, section{Name: name})
		}
		here := &v.Sections[len(v.Sections)-1]
		here.Keys = append(here.Keys, settingView{one, last})
	}
	return v, nil
}
