package web

import (
	"errors"
	"net/http"
	"net/url"

	"gatepost/internal/console"
	"gatepost/proxy/spool"
)

// What can't be taken back is asked for once more, on a page that shows what it
// is about.

func confirmPage() page {
	return page{path: "/queue/confirm", title: "Are you sure?", needs: console.ActQueue, file: "confirm.html", load: (*Server).confirm}
}

// needsWord reports whether an action is asked for once more.
func needsWord(a console.Action) bool {
	return a == console.Delete || a == console.Bounce || a == console.Expire
}

type confirmView struct {
	Action   console.Action
	Means    string
	Messages []console.Message
	Back     string
}

// confirmPath leads to the page that asks.
func confirmPath(a console.Action, ids []string, back string) string {
	return "/queue/confirm?" + url.Values{"action": {string(a)}, "id": ids, "back": {back}}.Encode()
}

func (s *Server) confirm(r *http.Request) (any, error) {
	v := confirmView{Action: console.Action(r.FormValue("action")), Back: ownPath(r.FormValue("back"))}
	switch v.Action {
	case console.Delete:
		v.Means = "They are removed for good, and nobody is told: neither their senders nor their recipients."
	case console.Bounce:
		v.Means = "They are given up, and their senders are told that they could not be delivered."
	case console.Expire:
		v.Means = "They are given up as if they were too old, and their senders are told."
	default:
		return nil, &badInput{"That is no action."}
	}
	ids := r.Form["id"]
	if len(ids) > perPage {
		return nil, &badInput{"These are too many at a time."}
	}
	for _, id := range ids {
		m, err := s.api.Show(r.Context(), id)
		if errors.Is(err, spool.ErrNotFound) {
			continue // it went meanwhile
		} else if err != nil {
			return nil, err
		}
		v.Messages = append(v.Messages, m)
	}
	return v, nil
}
