package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "gatepost/"

// mayImport says which of our packages each folder may import, in code that is
// not a test. A folder that is not listed may import none: a new one is
// entered here first, with its reason in docs/architecture.md.
var mayImport = map[string][]string{
	"internal/mail":          nil,
	"internal/mime":          {"internal/mail", "internal/archive"},
	"internal/archive":       nil,
	"internal/dkim":          {"internal/mail", "internal/dns"},
	"internal/arc":           {"internal/mail", "internal/dns", "internal/dkim"},
	"internal/dmarc":         {"internal/mail", "internal/dns"},
	"internal/sign":          {"internal/mail", "filters", "internal/dkim", "internal/arc"},
	"internal/alter":         {"internal/mail", "filters", "internal/mime"},
	"milter":                 {"internal/mail", "internal/unixsocket", "milter/wire"},
	"milter/wire":            nil,
	"proxy":                  {"internal/mail", "proxy/spool", "internal/users"},
	"proxy/spool":            {"internal/mail"},
	"proxy/queue":            {"internal/mail", "proxy/spool"},
	"proxy/journal":          {"internal/mail", "proxy/spool"},
	"proxy/forward":          {"internal/mail", "internal/dns"},
	"filters":                {"internal/mail"},
	"filters/*":              {"internal/mail", "internal/mime", "filters", "internal/dns", "internal/spf", "internal/state"},
	"filters/child":          {"internal/mail", "internal/mime", "filters", "internal/dns", "internal/state", "milter", "milter/wire"},
	"filters/auth":           {"internal/mail", "filters", "internal/dns", "internal/spf", "internal/dkim", "internal/arc", "internal/dmarc"},
	"filters/filtertest":     {"internal/mail", "filters"},
	"rules":                  {"internal/mail", "rules/access", "rules/policy"},
	"rules/policy":           {"internal/mail", "internal/tomltext"},
	"rules/access":           {"internal/mail"},
	"rules/checkrules":       {"internal/mail"},
	"rules/rehearse":         {"internal/mail", "internal/history"},
	"internal/generations":   nil,
	"rules/rewrite":          {"internal/mail"},
	"internal/backscatter":   nil,
	"internal/mailq":         nil,
	"internal/tomltext":      nil,
	"internal/state":         nil,
	"internal/drac":          {"internal/unixsocket"},
	"internal/unixsocket":    nil,
	"internal/spf":           {"internal/mail", "internal/dns"},
	"internal/users":         {"internal/mail", "internal/state"},
	"internal/recipients":    {"internal/mail", "internal/state"},
	"internal/history":       {"internal/mail"},
	"internal/quarantine":    {"internal/mail", "internal/state"},
	"internal/digest":        {"internal/mail", "internal/state"},
	"internal/notify":        {"internal/mail"},
	"internal/maillog":       nil,
	"internal/metrics":       nil,
	"internal/progress":      nil,
	"internal/telemetry":     {"internal/mail", "internal/history"},
	"internal/dns":           {"internal/mail"},
	"internal/dns/dnstest":   {"internal/dns"},
	"internal/console/audit": nil,
	"internal/console":       {"internal/console/audit", "internal/mail", "internal/unixsocket", "internal/state", "proxy/spool", "internal/history"},
	"internal/console/web":   {"internal/console/audit", "internal/console", "internal/users", "internal/mail", "internal/mime", "internal/history", "proxy/spool"},
	"internal/config":        {"internal/mail", "internal/tomltext", "internal/state", "proxy", "proxy/spool", "proxy/queue", "proxy/journal", "proxy/forward", "filters", "filters/clamav", "filters/spamassassin", "filters/child", "filters/dnsbl", "filters/greylist", "filters/rates", "filters/client", "filters/blocklist", "filters/auth", "filters/attachments", "filters/icap", "rules", "rules/policy", "internal/sign", "internal/alter", "internal/mime", "internal/history", "internal/quarantine", "internal/digest", "internal/notify", "rules/checkrules", "rules/rewrite", "rules/access", "internal/users", "internal/console", "internal/maillog", "internal/telemetry", "internal/dns", "internal/drac", "internal/recipients", "milter"},
	"internal/testkit":       nil,
	"internal/arch":          nil,
	"cmd/gatepost":           {"*"},
	"integration":            {"internal/testkit"},
	"integration/bench":      {"integration/bench/measure"},

	"integration/bench/measure": nil,
	"integration/milterbench":   {"integration/bench/measure"},

	"examples/tryout": {"internal/testkit"},
}

// onlyImportedBy keeps a package for those who may know it.
var onlyImportedBy = map[string][]string{
	"internal/config":      {"cmd/gatepost"},
	"internal/testkit":     {"integration", "examples/tryout"},
	"internal/dns/dnstest": {},
}

// badNames say nothing about what a thing is.
var badNames = []string{"utils", "util", "common", "helper", "helpers", "manager", "impl", "misc", "types"}

const longestFunction = 150 // lines

type source struct {
	folder, name string
	test         bool
	fset         *token.FileSet
	file         *ast.File
}

// sources parses every Go file of the project. The files themselves are read,
// not a package list: `go list` would hide behind the test cache what changed.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, source{folder: filepath.ToSlash(filepath.Dir(rel)), name: rel, test: strings.HasSuffix(path, "_test.go"), fset: fset, file: f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d files found: is the walk broken?", len(all))
	}
	return all
}

func allowed(folder string) ([]string, bool) {
	if list, ok := mayImport[folder]; ok {
		return list, true
	}
	list, ok := mayImport[filepath.ToSlash(filepath.Dir(folder))+"/*"]
	return list, ok
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		list, known := allowed(s.folder)
		if !known {
			t.Errorf("%s: folder %s is not in the table of this test", s.name, s.folder)
			continue
		}
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			ours, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			if !slices.Contains(list, ours) && !slices.Contains(list, "*") {
				t.Errorf("%s imports %s: %s may not know it; declare an interface there and wire it in cmd/gatepost", s.name, ours, s.folder)
			}
			if by, limited := onlyImportedBy[ours]; limited && !slices.Contains(by, s.folder) {
				t.Errorf("%s imports %s, which is for %v only", s.name, ours, by)
			}
		}
	}
}

// Tests may use more, but black-box tests stay black.
func TestIntegrationKnowsOnlyTheBinary(t *testing.T) {
	for _, s := range sources(t) {
		if s.folder != "integration" {
			continue
		}
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if ours, ok := strings.CutPrefix(path, module); ok && ours != "internal/testkit" {
				t.Errorf("%s imports %s: integration tests see only the binary", s.name, ours)
			}
		}
	}
}

func TestNoInitNoLongFunctions(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init: what happens on import can't be read where it is used", s.fset.Position(f.Pos()))
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line; n > longestFunction {
				t.Errorf("%s: %s has %d lines, at most %d", s.fset.Position(f.Pos()), f.Name.Name, n, longestFunction)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range sources(t) {
		for _, part := range append(strings.Split(s.folder, "/"), strings.TrimSuffix(filepath.Base(s.name), ".go"), s.file.Name.Name) {
			if slices.Contains(badNames, part) {
				t.Errorf("%s: %q is a name that says nothing", s.name, part)
			}
		}
	}
}

// A package that others import says what it is for.
func TestPackageComments(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			documented[s.folder] = documented[s.folder] || s.file.Doc != nil
		}
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment in any file", folder)
		}
	}
}

// State that hangs on a package can't be owned, tested or run twice.
func TestNoMutablePackageState(t *testing.T) {
	mutable := []string{"Mutex", "RWMutex", "Once", "Map", "WaitGroup", "Pointer", "Bool", "Int32", "Int64", "Uint32", "Uint64", "Value"}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				typ := v.Type
				if i, ok := typ.(*ast.IndexExpr); ok {
					typ = i.X
				}
				if sel, ok := typ.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") && slices.Contains(mutable, sel.Sel.Name) {
						t.Errorf("%s: package-level %s.%s", s.fset.Position(v.Pos()), x.Name, sel.Sel.Name)
					}
				}
				if _, ok := typ.(*ast.ChanType); ok {
					t.Errorf("%s: package-level channel", s.fset.Position(v.Pos()))
				}
			}
		}
	}
}
