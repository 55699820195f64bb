package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatepost/internal/console"
)

func queuePage() page {
	return page{
		path: "/queue", title: "Queue", nav: true, needs: console.ViewMail, file: "queue.html",
		load:  (*Server).queue,
		posts: map[string]action{"act": (*Server).queueAct},
	}
}

// perPage is how many lines a table shows; who wants others narrows the filter.
const perPage = 100

// queueView is what the page of the queue shows.
type queueView struct {
	Query    url.Values
	Lanes    []string
	Messages []console.Message
	More     bool
	MayAct   bool
	Actions  []console.Action
	Back     string // this page, with its filter
}

func (s *Server) queue(r *http.Request) (any, error) {
	v := queueView{
		Query: r.URL.Query(), Lanes: console.Lanes(), Back: r.URL.RequestURI(),
		MayAct:  console.IdentityOf(r.Context()).May(console.ActQueue),
		Actions: []console.Action{console.Retry, console.Hold, console.Unhold, console.Delete, console.Bounce},
	}
	f, err := queueFilter(v.Query)
	if err != nil {
		return nil, err
	}
	err = s.api.List(r.Context(), f, func(m console.Message) error {
		if len(v.Messages) == perPage {
			v.More = true
			return errEnough
		}
		v.Messages = append(v.Messages, m)
		return nil
	})
	if err != nil && err != errEnough {
		return nil, err
	}
	return v, nil
}

var errEnough = fmt.Errorf("enough")

// queueFilter is what the form asks for.
func queueFilter(q url.Values) (console.Filter, error) {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f := console.Filter{Sender: get("sender"), Recipient: get("recipient"), Domain: get("domain"), Reason: get("reason")}
	if lane := get("lane"); lane != "" {
		f.Lanes = []string{lane}
	}
	if older := get("older"); older != "" {
		d, err := time.ParseDuration(older)
		if err != nil {
			return f, &badInput{fmt.Sprintf("%q is no time; write one like 4h or 30m.", older)}
		}
		f.Older = d
	}
	if err := f.Validate(); err != nil {
		return f, &badInput{err.Error()}
	}
	return f, nil
}

// queueAct does one action to the messages that are ticked.
func (s *Server) queueAct(r *http.Request) (said, to string, err error) {
	if err := r.ParseForm(); err != nil {
		return "", "", &badInput{"The form can't be read."}
	}
	ids := r.Form["id"]
	a := console.Action(r.FormValue("action"))
	switch {
	case len(ids) == 0:
		return "", "", &badInput{"No message was chosen. Go back and tick some."}
	case a.Validate() != nil:
		return "", "", &badInput{"That is no action."}
	}
	if needsWord(a) && r.FormValue("sure") != "yes" {
		return "", confirmPath(a, ids[:min(len(ids), perPage)], cmp.Or(ownPath(r.FormValue("back")), "/queue")), nil
	}
	result, err := s.api.Apply(r.Context(), a, console.Request{IDs: ids, Bound: perPage})
	if err != nil {
		return "", "", err
	}
	said = fmt.Sprintf("%s: %d of %d done.", a, result.Done, len(ids))
	if len(result.Failed) > 0 {
		said += " " + strings.Join(slices.Compact(result.Failed[:min(3, len(result.Failed))]), "; ")
	}
	return said, cmp.Or(ownPath(r.FormValue("back")), "/queue"), nil
}
