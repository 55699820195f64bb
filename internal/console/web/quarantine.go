package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/console"
	"gatepost/internal/mail"
)

func quarantinePage() page {
	return page{
		path: "/quarantine", title: "Quarantine", nav: true, needs: console.ViewMail, file: "quarantine.html",
		load:  (*Server).quarantine,
		posts: map[string]action{"act": (*Server).quarantineAct},
	}
}

func heldPage() page {
	return page{path: "/quarantine/{id}", title: "Held message", needs: console.ViewMail, file: "held.html", load: (*Server).held}
}

// surePage asks once more before somebody never gets his mail.
func surePage() page {
	return page{path: "/quarantine/sure", title: "Are you sure?", needs: console.ActHeld, file: "sure.html", load: (*Server).sure}
}

// quarantineView is what is held.
type quarantineView struct {
	Query    url.Values
	Kinds    []mail.HeldKind
	Messages []console.Message
	More     bool
	MayAct   bool
	Back     string
}

func (s *Server) quarantine(r *http.Request) (any, error) {
	v := quarantineView{
		Query: r.URL.Query(), Kinds: mail.HeldKinds(), Back: r.URL.RequestURI(),
		MayAct: console.IdentityOf(r.Context()).May(console.ActHeld),
	}
	f, err := queueFilter(v.Query)
	if err != nil {
		return nil, err
	}
	f.Lanes, f.Subject = nil, strings.TrimSpace(v.Query.Get("subject"))
	if kind := v.Query.Get("kind"); kind != "" {
		f.Kinds = []mail.HeldKind{mail.HeldKind(kind)}
	}
	err = s.api.ListHeld(r.Context(), f, func(m console.Message) error {
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

// heldView is one message, and what may be done with it.
type heldView struct {
	console.Message
	MayAct, MayApprove, MayView bool
	Words                       string // of its kind
	Approval                    bool   // its release needs one
}

func (s *Server) held(r *http.Request) (any, error) {
	m, err := s.api.Show(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if m.Lane != console.Held {
		return nil, &console.Refusal{Text: "This message is not held any more.", Status: http.StatusNotFound}
	}
	role := console.IdentityOf(r.Context()).Role
	return heldView{
		Message: m, MayAct: role.May(console.ActHeld), MayApprove: role.May(console.ApproveHeld), MayView: role.May(console.ViewContent),
		Words: kindWords(m.Kind), Approval: m.Kind.NeedsApproval() || m.Unscanned != "",
	}, nil
}

// kindWords is a kind for people.
func kindWords(k mail.HeldKind) string {
	switch k {
	case mail.HeldVirus:
		return "a virus"
	case mail.HeldAttachment:
		return "a banned file"
	case mail.HeldUnscanned:
		return "could not be scanned"
	case mail.HeldAmbiguous:
		return "ambiguous"
	case mail.HeldDMARC:
		return "not from its author"
	case mail.HeldSpam:
		return "spam"
	case mail.HeldRule:
		return "a rule"
	case mail.HeldHand:
		return "by hand"
	}
	return "held"
}

// heldActions are the buttons.
var heldActions = map[string]struct {
	verb   console.HeldVerb
	lesson string
	said   string
}{
	"release":    {console.HeldRelease, "", "released"},
	"delete":     {console.HeldDelete, "", "deleted"},
	"learn-spam": {console.HeldLearn, "spam", "learned as spam"},
	"learn-ham":  {console.HeldLearn, "ham", "learned as wanted"},
	"allow":      {console.HeldAllow, "", "allowed: their senders, for their recipients"},
	"block":      {console.HeldBlock, "", "blocked: their senders, for their recipients"},
}

// quarantineAct does what a button says with the messages that are ticked, for the
// recipients that are ticked, where a page shows them.
func (s *Server) quarantineAct(r *http.Request) (said, to string, err error) {
	if err := r.ParseForm(); err != nil {
		return "", "", &badInput{"The form can't be read."}
	}
	ids, name := r.Form["id"], r.FormValue("action")
	do, ok := heldActions[name]
	back := ownPath(r.FormValue("back"))
	switch {
	case !ok:
		return "", "", &badInput{"That is no action."}
	case len(ids) == 0:
		return "", "", &badInput{"No message was chosen. Go back and tick some."}
	case len(ids) > perPage:
		return "", "", &badInput{"These are too many at a time."}
	case r.FormValue("named") != "" && len(r.Form["rcpt"]) == 0:
		return "", "", &badInput{"No recipient was chosen. Go back and tick some."}
	}
	req := console.HeldRequest{IDs: ids, Recipients: r.Form["rcpt"], Lesson: do.lesson}
	if do.verb == console.HeldDelete && r.FormValue("sure") != "yes" {
		return "", "/quarantine/sure?" + url.Values{"id": ids, "rcpt": req.Recipients, "back": {back}}.Encode(), nil
	}
	if do.verb == console.HeldRelease {
		req.Approve = strings.TrimSpace(r.FormValue("approve"))
	}
	if do.verb == console.HeldLearn {
		req.Recipients = nil // it is about the message
	}
	result, err := s.api.ApplyHeld(r.Context(), do.verb, req)
	if err != nil {
		return "", "", err
	}
	if result.Done == 0 && len(result.Failed) > 0 {
		return "", "", &badInput{"Nothing was done: " + strings.Join(firstFailures(result), "; ") + "."}
	}
	said = fmt.Sprintf("%d of %d %s.", result.Done, len(ids), do.said)
	if len(result.Failed) > 0 {
		said += " " + strings.Join(firstFailures(result), "; ") + "."
	}
	if do.verb != console.HeldRelease && do.verb != console.HeldDelete {
		return said, back, nil
	}
	return said, heldBack(back, ids), nil
}

func firstFailures(r console.Result) []string {
	return slices.Compact(slices.Clone(r.Failed[:min(3, len(r.Failed))]))
}

// heldBack leads away from the page of a message that may have gone.
func heldBack(back string, ids []string) string {
	if len(ids) == 1 && back == "/quarantine/"+ids[0] {
		return "/quarantine"
	}
	return back
}

// sureView is what will be gone.
type sureView struct {
	Messages   []console.Message
	Recipients []string // only of these; none: of all
	Back       string
}

func (s *Server) sure(r *http.Request) (any, error) {
	if err := r.ParseForm(); err != nil || len(r.Form["id"]) > perPage {
		return nil, &badInput{"These are too many at a time."}
	}
	v := sureView{Back: ownPath(r.FormValue("back")), Recipients: r.Form["rcpt"]}
	for _, id := range r.Form["id"] {
		if m, err := s.api.Show(r.Context(), id); err == nil && m.Lane == console.Held {
			v.Messages = append(v.Messages, m)
		}
	}
	return v, nil
}
