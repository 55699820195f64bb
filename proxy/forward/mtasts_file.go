package forward

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stsFiles is a directory with a file for each domain whose policy is known:
//
//	id: 20260105T010203
//	fetched: 2026-01-05T08:15:00Z
//
//	version: STSv1
//	…
//
// A file that is lost or damaged is a policy that has to be fetched again. ""
// keeps nothing.
type stsFiles string

func (dir stsFiles) path(domain string) string { return filepath.Join(string(dir), domain) }

// read returns the policy of a domain, nil where there is none that can be read.
func (dir stsFiles) read(domain string) *stsKept {
	if dir == "" {
		return nil
	}
	text, err := os.ReadFile(dir.path(domain))
	if err != nil || len(text) > maxSTSPolicy+1000 {
		return nil
	}
	head, policy, ok := strings.Cut(string(text), "\n\n")
	id, fetched, two := strings.Cut(head, "\n")
	id, three := strings.CutPrefix(id, "id: ")
	fetched, four := strings.CutPrefix(fetched, "fetched: ")
	if !ok || !two || !three || !four {
		return nil
	}
	at, err := time.Parse(time.RFC3339, fetched)
	if err != nil {
		return nil
	}
	p, err := parseSTSPolicy(policy)
	if err != nil {
		return nil
	}
	return &stsKept{stsPolicy: p, id: id, fetched: at, text: policy}
}

// write puts the file of a domain in place, whole or not at all.
func (dir stsFiles) write(domain string, k *stsKept) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(dir), ".new-*")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "id: %s\nfetched: %s\n\n%s", k.id, k.fetched.UTC().Format(time.RFC3339), k.text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), dir.path(domain))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (dir stsFiles) remove(domain string) {
	if dir != "" {
		_ = os.Remove(dir.path(domain))
	}
}

// maxSwept is how many files are looked at in one go.
const maxSwept = 100000

// sweep removes what has expired, and what a crash left half-written.
func (dir stsFiles) sweep(now time.Time) {
	if dir == "" {
		return
	}
	d, err := os.Open(string(dir))
	if err != nil {
		return
	}
	names, _ := d.Readdirnames(maxSwept)
	_ = d.Close()
	for _, name := range names {
		if strings.HasPrefix(name, ".new-") {
			_ = os.Remove(dir.path(name))
		} else if k := dir.read(name); k != nil && k.expired(now) {
			_ = os.Remove(dir.path(name))
		}
	}
}
