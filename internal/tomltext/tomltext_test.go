package tomltext

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestScan(t *testing.T) {
	tests := []struct {
		name, text string
		path       []any
		want       Position
	}{
		{"first key", "a = 1", []any{"a"}, Position{1, 1}},
		{"indented, after a comment", "# a = 0\n\n  a = 1 # a", []any{"a"}, Position{3, 3}},
		{"table header", "[x]\na = 1", []any{"x"}, Position{1, 2}},
		{"key in a table", "[x]\na = 1", []any{"x", "a"}, Position{2, 1}},
		{"quoted header", "[route.\"a.b\"]\nto = 1", []any{"route", "a.b", "to"}, Position{2, 1}},
		{"header with blanks", "[ route . 'a.b' ]\nto = 1", []any{"route", "a.b"}, Position{1, 11}},
		{"dotted key", "x.y . z = 1", []any{"x", "y", "z"}, Position{1, 7}},
		{"escaped key", "\"a\\u0062\" = 1", []any{"ab"}, Position{1, 1}},
		{"inline table", "x = { a = 1, b.c = 2 }", []any{"x", "b", "c"}, Position{1, 16}},
		{"array element", "x = [\n  1, # one\n  2,\n]\ny = 1", []any{"x", 1}, Position{3, 3}},
		{"after an array", "x = [\n  1, # one ]\n  \"]\",\n]\ny = 1", []any{"y"}, Position{5, 1}},
		{"array of tables", "[[x]]\na = 1\n[[x]]\na = 2", []any{"x", 1, "a"}, Position{4, 1}},
		{"second of an array of tables", "[[x]]\na = 1\n[[x]]\na = 2", []any{"x", 1}, Position{3, 3}},
		{"table below an array of tables", "[[x]]\n[x.y]\na = 1\n[[x]]\n[x.y]\na = 2", []any{"x", 1, "y", "a"}, Position{6, 1}},
		{"multi-line string", "x = \"\"\"\n[y]\nz = \\\"\"\" \"\"\"\"\"\ny = 1", []any{"y"}, Position{4, 1}},
		{"multi-line literal", "x = '''\n[y]\\\n'''\ny = 1", []any{"y"}, Position{4, 1}},
		{"literal ending in a backslash", "x = 'C:\\'\ny = 1", []any{"y"}, Position{2, 1}},
		{"hash in a string", "x = \"#\" # \"\ny = 1", []any{"y"}, Position{2, 1}},
		{"CRLF", "x = 1\r\n\r\ny = 1\r\n", []any{"y"}, Position{3, 1}},
		{"dates and floats", "x = 2020-01-01T00:00:00Z\nz = 1.5\ny = 1", []any{"y"}, Position{3, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v map[string]any
			if _, err := toml.Decode(tt.text, &v); err != nil {
				t.Fatalf("the test's own text: %v", err)
			}
			n := Scan(tt.text)
			for _, step := range tt.path {
				switch step := step.(type) {
				case string:
					n = n.Child(step)
				case int:
					n = n.Item(step)
				}
			}
			if n == nil {
				t.Fatalf("%v not found", tt.path)
			}
			if got := NewLines(tt.text).Position(n.At); got != tt.want {
				t.Errorf("position of %v = %v, want %v", tt.path, got, tt.want)
			}
		})
	}
}

// FuzzScan holds the scanner to the decoder: what one accepts has a place for
// every key and element, and nothing makes the other fall.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		"a = 1", "[a.b]\nc = [1, {d = 2}]", "[[a]]\nb = '''x'''\n[[a]]\n[a.c]", "a = \"\"\"\"\"\"\"\"", "\"a.b\".c = {\n x = 1,\n}",
		"[a", "a = [", "a = \"\\", "[[[", "= = =", "a.=1", "'", "a={b=[{c=\"}\"}]}", "[x]\n[x.y]\n[x.'']\nz=1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := Scan(text)
		var v map[string]any
		if _, err := toml.Decode(text, &v); err != nil {
			return
		}
		if path := missing(n, v, ""); path != "" {
			t.Errorf("no place for %s in %q", path, text)
		}
	})
}

// missing returns the path of a value that has no node.
func missing(n *Node, v any, path string) string {
	if n == nil {
		return path
	}
	if m, ok := v.(map[string]any); ok {
		for k := range m {
			if p := missing(n.Child(k), m[k], path+"."+k); p != "" {
				return p
			}
		}
		return ""
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice {
		for i := range list.Len() {
			if p := missing(n.Item(i), list.Index(i).Interface(), fmt.Sprintf("%s[%d]", path, i)); p != "" {
				return p
			}
		}
	}
	return ""
}
