package console

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"gatepost/internal/console/audit"
	"gatepost/internal/history"
	"gatepost/internal/state"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

// fullDeps are all that the API can act on.
func fullDeps(t *testing.T) ControlDeps {
	d := ControlDeps{
		Queue: &memory{}, Held: struct{ HeldQueue }{}, Digests: struct{ Digests }{}, RuleBook: struct{ RuleBook }{}, State: state.NewMemory(nil), History: &finder{}, Log: quiet(), Audit: audit.New("", quiet()),
		Status: func() Status { return Status{} }, Reload: func(context.Context) error { return nil },
		RuleHits: func() []RuleHit { return nil }, Health: func() Health { return Health{} },
		Settings: func() []Setting { return nil }, Users: func() []User { return nil },
		Scan: func(context.Context, ScanRequest) (history.Record, error) { return history.Record{}, nil },
	}
	v := reflect.ValueOf(&d).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if !f.IsZero() {
			continue
		}
		switch f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Func:
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value { panic("nobody calls it") }))
		default:
			t.Fatalf("fullDeps lacks %s: add it, so that its routes are documented", v.Type().Field(i).Name)
		}
	}
	return d
}

// The documentation has every route, and nothing else; docs/openapi.json is up to
// date.
func TestOpenAPI(t *testing.T) {
	routes := NewControl("", fullDeps(t)).Routes()
	known := descriptions()
	for _, r := range routes {
		d, ok := known[r.Pattern]
		if !ok || d.does == "" {
			t.Errorf("%s is in no documentation: describe it in descriptions.go", r.Pattern)
		}
		delete(known, r.Pattern)
	}
	for pattern := range known {
		t.Errorf("%s is described, and there is no such route", pattern)
	}
	text, err := OpenAPI(routes)
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/openapi.json"
	if *update {
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(text)+"\n" {
		t.Errorf("%s is not what the routes are: go test ./internal/console -run OpenAPI -update", file)
	}
	var parsed struct {
		OpenAPI    string
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(text, &parsed); err != nil || parsed.OpenAPI != "3.1.0" {
		t.Fatalf("%v, version %q", err, parsed.OpenAPI)
	}
	n := 0
	for _, path := range parsed.Paths {
		n += len(path)
	}
	if n != len(routes) {
		t.Errorf("%d operations for %d routes", n, len(routes))
	}
	for _, part := range strings.Split(string(text), `"$ref": "#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(part, `"`); parsed.Components.Schemas[name] == nil {
			t.Errorf("%s is referred to, and not there", name)
		}
	}
}
