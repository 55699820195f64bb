package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
)

// TestExample holds the example to what it says of itself: it is accepted, and
// the lines that are comments show the defaults.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../examples/gatepost.toml")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := read("x", string(text), true)
	if err != nil {
		t.Fatalf("the example is refused:\n%v", err)
	}
	if len(plain.Warnings) > 0 {
		t.Errorf("warnings: %v", plain.Warnings)
	}
	all := regexp.MustCompile(`(?m)^# ([a-z_]+ *= )`).ReplaceAll(text, []byte("$1"))
	if len(all) == len(text) {
		t.Fatal("nothing to uncomment")
	}
	// Files that are not there.
	all = regexp.MustCompile(`(?m)^(access|relay_domains_file|local_host_names_file|postfix_relay_domains_file|networks_file|tls_cert|tls_key|file|genericstable|generics_domains|domaintable|virtusertable|virtual_domains|aliases|alias_domains) .*$`).ReplaceAll(all, nil)
	full, err := read("x", string(all), true)
	if err != nil {
		t.Fatalf("the example with all defaults is refused:\n%v", err)
	}
	plain.Settings, full.Settings = nil, nil                       // they say where each key stands
	plain.Rules.Files.Inspect, full.Rules.Files.Inspect = nil, nil // functions are never equal
	if !reflect.DeepEqual(plain, full) {
		t.Errorf("a comment shows something else than the default:\n without: %+v\n with:    %+v", plain, full)
	}
}

// TestNamesOfFiles keeps the pairs of inputs and expectations together.
func TestNamesOfFiles(t *testing.T) {
	for _, pattern := range []string{"bad", "good"} {
		texts, _ := filepath.Glob(filepath.Join("testdata", pattern, "*.txt"))
		for _, txt := range texts {
			if _, err := os.Stat(txt[:len(txt)-len(".txt")] + ".toml"); err != nil {
				t.Errorf("%s belongs to no file", txt)
			}
		}
	}
}
