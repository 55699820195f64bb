package web

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"gatepost/internal/console"
)

// A message is tested by the filters and rules that run, and nothing is left of
// it: the answer to the form is the page that tells what would become of it.

func trialPage() page {
	return page{path: "/test", title: "Test a message", nav: true, needs: console.ViewSystem, file: "trial.html", load: (*Server).trialForm}
}

// trialView is the form as it was filled in, and what came of it.
type trialView struct {
	Client, Helo, Sender, Recipients, Message string
	Why                                       string // it could not be judged
	Result                                    *messageView
}

func (s *Server) trialForm(*http.Request) (any, error) {
	return trialView{Message: "From: somebody@example.org\nTo: you@example.com\nSubject: A test\n\nHello.\n"}, nil
}

// trialTime is how long filters may take.
const trialTime = 3 * time.Minute

// trial answers the form. It shows the form again, so that one thing can be
// changed and the rest stays.
func (s *Server) trial(w http.ResponseWriter, r *http.Request) {
	p := trialPage()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(trialTime))
	if !s.may(w, r, p) {
		return
	}
	if !s.hasToken(r) {
		s.fail(w, r, p, errOldForm)
		return
	}
	v := trialView{Client: r.FormValue("client"), Helo: r.FormValue("helo"), Sender: r.FormValue("sender"), Recipients: r.FormValue("recipients"), Message: r.FormValue("message")}
	message, err := pasted(r)
	if err != nil {
		s.fail(w, r, p, err)
		return
	}
	req := console.ScanRequest{Client: strings.TrimSpace(v.Client), Helo: v.Helo, Sender: strings.TrimSpace(v.Sender), Message: message}
	req.Recipients = strings.FieldsFunc(v.Recipients, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
	record, err := s.api.Scan(r.Context(), req)
	code := http.StatusOK
	if err != nil {
		v.Why, code = err.Error(), codeOf(err)
	} else {
		v.Result = &messageView{Last: record}
		v.Result.Bars, v.Result.Scale = waterfall(record.Asked)
	}
	s.views.execute(w, code, p.file, s.frame(r, p, v))
}

// pasted is the message of the form: the file where one was chosen, else the text.
func pasted(r *http.Request) ([]byte, error) {
	f, _, err := r.FormFile("file")
	switch {
	case err == nil:
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			return nil, &badInput{"The file can't be read: " + err.Error()}
		}
		if len(b) > 0 {
			return b, nil
		}
	case !errors.Is(err, http.ErrMissingFile) && !errors.Is(err, http.ErrNotMultipart):
		return nil, &badInput{"The form can't be read: " + err.Error()}
	}
	text := r.FormValue("message")
	if strings.TrimSpace(text) == "" {
		return nil, &badInput{"There is no message. Paste one with its header, or choose a file."}
	}
	return []byte(text), nil
}
