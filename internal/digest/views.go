package digest

import (
	"embed"
	"html/template"
	"io"
	text "text/template"
)

//go:embed templates
var files embed.FS

// views are the templates: the HTML ones escape what they are given.
type views struct {
	html *template.Template
	text *text.Template
}

func newViews() (*views, error) {
	html, err := template.ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	plain, err := text.ParseFS(files, "templates/*.txt")
	if err != nil {
		return nil, err
	}
	return &views{html, plain}, nil
}

func (v *views) write(w io.Writer, name string, data any) error {
	if v.text.Lookup(name) != nil {
		return v.text.ExecuteTemplate(w, name, data)
	}
	return v.html.ExecuteTemplate(w, name, data)
}
