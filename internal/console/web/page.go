package web

import (
	"embed"
	"html/template"
	"net/http"
	"path"
	"strings"

	"gatepost/internal/console"
)

// page is one of the console. Its file of templates/ defines "content".
type page struct {
	path  string // pattern of http.ServeMux: "/queue", "/message/{id}"
	title string
	nav   bool               // stands in the navigation
	live  bool               // what it marks so is kept up to date while somebody looks
	needs console.Capability // who sees it
	file  string             // of templates/
	load  func(*Server, *http.Request) (any, error)
	// posts are its forms, by the last part of their path. They return what to
	// say, and where: "" is the page itself.
	posts map[string]action
}

type action func(*Server, *http.Request) (said, to string, err error)

// allPages are in the order of the navigation. A page with its actions has a
// file of its own.
func allPages() []page {
	return []page{overviewPage(), trackingPage(), messagePage(), contentPage(), queuePage(), confirmPage(), quarantinePage(), heldPage(), surePage(), rulesPage(), rehearsalPage(), trialPage(), reportsPage(), filtersPage(), settingsPage(), auditPage(), usersPage()}
}

//go:embed templates
var templates embed.FS

//go:embed static
var files embed.FS

func static(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	http.ServeFileFS(w, r, files, path.Join("static", path.Base(r.PathValue("file"))))
}

// views are the pages as templates, by the name of their files.
type views map[string]*template.Template

func parseViews(pages []page) (views, error) {
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templates, "templates/layout.html", "templates/record.html")
	if err != nil {
		return nil, err
	}
	v := make(views)
	names := []string{"login.html", "error.html"}
	for _, p := range pages {
		names = append(names, p.file)
	}
	for _, name := range names {
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(templates, "templates/"+name)
		}
		if err != nil {
			return nil, err
		}
		v[name] = t
	}
	return v, nil
}

// frame is what the layout shows around the content.
type frame struct {
	Title, Hostname string
	User            *console.Identity // nil: not logged in
	Token           string
	Flash           string
	Nav             []link
	Live            bool
	Data            any
}

type link struct {
	Path, Title string
	Here        bool
}

// execute writes a page. It is made whole first: half a page would say the
// wrong thing.
func (v views) execute(w http.ResponseWriter, code int, name string, f frame) {
	var b strings.Builder
	if err := v[name].ExecuteTemplate(&b, "layout.html", f); err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(b.String())) // the browser may be gone
}

func (v views) login(w http.ResponseWriter, code int, hostname string, p loginPage) {
	v.execute(w, code, "login.html", frame{Title: "Log in", Hostname: hostname, Data: p})
}

// frame is what stands around a page for whoever asks.
func (s *Server) frame(r *http.Request, p page, data any) frame {
	id := console.IdentityOf(r.Context())
	in, _ := s.sessions.find(s.keyOf(r))
	f := frame{Title: p.title, Hostname: s.cfg.Hostname, User: &id, Token: in.token, Live: p.live, Data: data}
	if !isRefresh(r) {
		f.Flash = s.sessions.takeFlash(s.keyOf(r))
	}
	for _, other := range s.pages {
		if other.nav && id.May(other.needs) {
			at := strings.TrimSuffix(other.path, "{$}")
			f.Nav = append(f.Nav, link{at, other.title, other.path == p.path})
		}
	}
	return f
}

// show answers a GET, which never changes anything.
func (s *Server) show(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.may(w, r, p) {
			return
		}
		data, err := p.load(s, r)
		if err != nil {
			s.fail(w, r, p, err)
			return
		}
		s.views.execute(w, http.StatusOK, p.file, s.frame(r, p, data))
	}
}

// act answers a form: it does what it says, and leads on to a page that shows
// what became of it.
func (s *Server) act(p page, do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.may(w, r, p) {
			return
		}
		if !s.hasToken(r) {
			s.fail(w, r, p, errOldForm)
			return
		}
		said, to, err := do(s, r)
		if err != nil {
			s.fail(w, r, p, err)
			return
		}
		s.sessions.say(s.keyOf(r), said)
		if to == "" {
			to = strings.TrimSuffix(p.path, "{$}")
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

func (s *Server) may(w http.ResponseWriter, r *http.Request, p page) bool {
	if console.IdentityOf(r.Context()).May(p.needs) {
		return true
	}
	s.fail(w, r, p, &console.Refusal{Text: "Your role does not show you this page.", Status: http.StatusForbidden})
	return false
}

// fail shows what went wrong.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, p page, err error) {
	f := s.frame(r, p, err.Error())
	f.Title = "That did not work"
	s.views.execute(w, codeOf(err), "error.html", f)
}
