package console

import (
	"encoding"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// OpenAPI describes routes for programs, as OpenAPI 3.1. What they take and answer
// is read off the types that the handlers use, so that it can't be something else.
func OpenAPI(routes []Route) ([]byte, error) {
	b := &schemas{all: make(map[string]any), failure: reflect.TypeFor[failure]()}
	paths := make(map[string]map[string]any)
	known := descriptions()
	for _, r := range routes {
		method, path, _ := strings.Cut(r.Pattern, " ")
		path = strings.TrimPrefix(path, "/v1")
		if paths[path] == nil {
			paths[path] = make(map[string]any)
		}
		paths[path][strings.ToLower(method)] = b.operation(r, path, known[r.Pattern])
	}
	return json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":       "Gatepost",
			"version":     "1",
			"description": "The control API: over the unix socket under /v1 for root, and over the console's listener under /api/v1 for users who are logged in.",
		},
		"servers": []any{map[string]any{"url": "/api/v1"}},
		"paths":   paths,
		"components": map[string]any{
			"schemas": b.all,
			"securitySchemes": map[string]any{
				"session": map[string]any{"type": "apiKey", "in": "cookie", "name": "gatepost", "description": "With TLS its name is __Host-gatepost. Whatever is no GET carries the header X-CSRF-Token as well."},
			},
		},
		"security": []any{map[string]any{"session": []any{}}},
	}, "", "  ")
}

// schemas are the types that were met.
type schemas struct {
	all     map[string]any
	failure reflect.Type
}

func (b *schemas) operation(r Route, path string, d description) map[string]any {
	kind := "application/json"
	if d.lines {
		kind = jsonLines
	}
	answers := map[string]any{"description": "done"}
	switch {
	case d.raw != "":
		answers["content"] = map[string]any{d.raw: map[string]any{"schema": map[string]any{"type": "string", "format": "binary"}}}
	case d.out != nil:
		answers["content"] = map[string]any{kind: map[string]any{"schema": b.schema(reflect.TypeOf(d.out))}}
	}
	refused := map[string]any{"description": "refused, and why", "content": map[string]any{"application/json": map[string]any{"schema": b.schema(b.failure)}}}
	op := map[string]any{
		"summary":               d.does,
		"x-gatepost-capability": string(r.Needs),
		"x-gatepost-audited":    r.audited(),
		"responses":             map[string]any{"200": answers, "4XX": refused, "5XX": refused},
	}
	if d.in != nil {
		op["requestBody"] = map[string]any{"required": true, "content": map[string]any{"application/json": map[string]any{"schema": b.schema(reflect.TypeOf(d.in))}}}
	}
	var parameters []any
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			schema := map[string]any{"type": "string"}
			if name = strings.TrimSuffix(name, "}"); name == "action" && r.Needs == ActQueue {
				schema["enum"] = Actions()
			}
			parameters = append(parameters, map[string]any{"name": name, "in": "path", "required": true, "schema": schema})
		}
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	return op
}

// schema describes a type; structs are described once, and referred to.
func (b *schemas) schema(t reflect.Type) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "integer", "description": "nanoseconds"}
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || t.Implements(reflect.TypeFor[json.Marshaler]()):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64, reflect.Float32:
		return map[string]any{"type": "number"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": b.schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": b.schema(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			return b.object(t)
		}
		name := strings.ToLower(t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]) + "." + t.Name()
		if b.all[name] == nil {
			b.all[name] = map[string]any{} // a type may have itself inside
			b.all[name] = b.object(t)
		}
		return map[string]any{"$ref": "#/components/schemas/" + name}
	case reflect.Interface:
		return map[string]any{}
	}
	return map[string]any{"type": "integer"}
}

func (b *schemas) object(t reflect.Type) map[string]any {
	properties, required := make(map[string]any), []string{}
	b.fields(t, properties, &required)
	slices.Sort(required)
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

func (b *schemas) fields(t reflect.Type, properties map[string]any, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			b.fields(f.Type, properties, required)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		properties[name] = b.schema(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}

// handleOpenAPI comes last: it describes what was registered before it.
func (c *Control) handleOpenAPI() {
	c.route("GET /v1/openapi.json", ViewMail, func(w http.ResponseWriter, r *http.Request) {
		text, err := OpenAPI(c.routes)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(text) // the client may be gone
	})
}
