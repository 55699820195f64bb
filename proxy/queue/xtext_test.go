package queue

import "testing"

func TestDecodeXtext(t *testing.T) {
	tests := []struct {
		name, in, want string
		ok             bool
	}{
		{"plain", "user@example.com", "user@example.com", true},
		{"empty", "", "", true},
		{"plus", "a+2Bb@example.com", "a+b@example.com", true},
		{"equals", "a+3Db", "a=b", true},
		{"lower-case digits", "a+3db", "a=b", true},
		{"blank", "a+20b", "a b", true},
		{"line break", "a+0D+0AX-Evil: 1", "", false},
		{"NUL", "a+00", "", false},
		{"beyond ASCII", "a+C3+A9", "", false},
		{"raw control", "a\rb", "", false},
		{"raw UTF-8", "é", "", false},
		{"bare equals", "a=b", "", false},
		{"no digits", "a+", "", false},
		{"one digit", "a+4", "", false},
		{"not hexadecimal", "a+4G", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := decodeXtext(tt.in); got != tt.want || ok != tt.ok {
				t.Errorf("decodeXtext(%q) = %q, %v; want %q, %v", tt.in, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestUTF8Xtext(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"ASCII", "user@example.com", "user@example.com"},
		{"two bytes", "jörg@bücher.example", `j\x{F6}rg@b\x{FC}cher.example`},
		{"beyond the first plane", "😀@example.com", `\x{1F600}@example.com`},
		{"what needs escapes", `a+b=c\d`, `a\x{2B}b\x{3D}c\x{5C}d`},
		{"broken", "a\xff", "a?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := utf8Xtext(tt.in); got != tt.want {
				t.Errorf("utf8Xtext(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// What comes out of xtext never ends a field, and undoes an encoding.
func FuzzDecodeXtext(f *testing.F) {
	for _, s := range []string{"", "a+2Bb", "+", "+0D+0A", "+3", "é", "+FF", "user+40example.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := decodeXtext(s)
		if !ok {
			if got != "" {
				t.Errorf("text %q without ok", got)
			}
			return
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Fatalf("decodeXtext(%q) has byte %#x", s, got[i])
			}
		}
		again, ok := decodeXtext(encodeXtext(got))
		if !ok || again != got {
			t.Errorf("%q encoded and decoded is %q, %v", got, again, ok)
		}
	})
}

func encodeXtext(s string) string {
	const digits = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		if c := s[i]; c == '+' || c == '=' || c == ' ' {
			b = append(b, '+', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
