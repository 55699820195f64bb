package tomltext

import "testing"

func TestSuggest(t *testing.T) {
	known := []string{"address", "timeout", "max_size", "on_error"}
	tests := map[string]string{
		"adress": "address", "Timeout": "timeout", "max_sise": "max_size", "onerror": "on_error", "on-error": "on_error", "colour": "", "x": "",
	}
	for in, want := range tests {
		if got := Suggest(in, known); got != want {
			t.Errorf("suggest(%q) = %q, want %q", in, got, want)
		}
	}
}
