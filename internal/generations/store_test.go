package generations

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func newStore(t *testing.T, keep int, failpoint func(string) error) *Store {
	t.Helper()
	s, err := New(Config{Dir: filepath.Join(t.TempDir(), "rules"), Keep: keep, Failpoint: failpoint})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, texts map[string]string) *Draft {
	t.Helper()
	d := s.Draft()
	for path, text := range texts {
		if err := d.Put(path, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestCommit(t *testing.T) {
	s := newStore(t, 3, nil)
	if _, err := s.Current(); !errors.Is(err, ErrNone) {
		t.Fatalf("of nothing: %v", err)
	}
	path := filepath.Join(t.TempDir(), "a.toml")
	if err := os.WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := s.Draft()
	f, err := d.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(f); err != nil || string(text) != "one" {
		t.Fatalf("%q, %v", text, err)
	}
	f.Close()
	if err := os.WriteFile(path, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if i > 0 {
			d = put(t, s, map[string]string{path: fmt.Sprint(i)})
		}
		g, err := s.Commit(d, Generation{Name: fmt.Sprint(i), Rules: []string{path}})
		if err != nil || g.Number != i+1 {
			t.Fatalf("%+v, %v", g, err)
		}
		if i == 0 { // what was read, not what is there now
			if text, err := s.Text(g, path); err != nil || string(text) != "one" {
				t.Errorf("kept %q, %v", text, err)
			}
		}
	}
	all, err := s.All()
	if err != nil || len(all) != 3 || all[0].Number != 5 || all[2].Number != 3 {
		t.Errorf("%d kept, %v", len(all), err)
	}
	again := s.Again(all[1])
	if f, err = again.Open(path); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := again.Open("/etc/passwd"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old generation reads other files: %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, "blobs", all[0].Files[0].SHA256), []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Text(all[0], path); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged text: %v", err)
	}
}

// A step that fails leaves the generation before; the next one goes on.
func TestSteps(t *testing.T) {
	for _, step := range Steps() {
		t.Run(step, func(t *testing.T) {
			broken := errors.New("broken")
			armed := false
			s := newStore(t, 3, func(at string) error {
				if armed && at == step {
					return broken
				}
				return nil
			})
			if _, err := s.Commit(put(t, s, map[string]string{"/a": "1"}), Generation{Name: "1"}); err != nil {
				t.Fatal(err)
			}
			armed = true
			d := s.Draft()
			err := d.Put("/a", strings.NewReader("2"))
			if err == nil {
				_, err = s.Commit(d, Generation{Name: "2"})
			}
			if !errors.Is(err, broken) {
				t.Fatal(err)
			}
			want := "1"
			if step == "rules.done" {
				want = "2"
			}
			if now, err := s.Current(); err != nil || now.Name != want {
				t.Errorf("now %q, %v", now.Name, err)
			}
		})
	}
}

func TestShrunk(t *testing.T) {
	of := func(access int, counts ...Count) Generation { return Generation{Access: access, Lists: counts} }
	tests := []struct {
		name       string
		old, fresh Generation
		want       int
	}{
		{"the same", of(5, Count{"a", 100, false}), of(5, Count{"a", 100, false}), 0},
		{"half", of(0, Count{"a", 100, false}), of(0, Count{"a", 50, false}), 0},
		{"less than half", of(0, Count{"a", 100, false}), of(0, Count{"a", 49, false}), 1},
		{"a short one", of(0, Count{"a", 11, false}), of(0, Count{"a", 1, false}), 0},
		{"empty", of(0, Count{"a", 1, false}), of(0, Count{"a", 0, false}), 1},
		{"empty as it was", of(0, Count{"a", 0, false}), of(0, Count{"a", 0, false}), 0},
		{"new and empty", of(0), of(0, Count{"a", 0, false}), 1},
		{"gone", of(0, Count{"a", 100, false}), of(0), 0},
		{"filled by commands", of(0, Count{"a", 100, true}), of(0, Count{"a", 0, true}), 0},
		{"the access map", of(100), of(10), 1},
		{"no access map", of(0), of(0), 0},
	}
	for _, tt := range tests {
		if got := Shrunk(tt.old, tt.fresh, 0.5); len(got) != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

func TestLog(t *testing.T) {
	s := newStore(t, 1, nil)
	long := strings.Repeat("x", maxRefused)
	for i := range 1100 {
		if err := s.Note(Entry{Number: i, Refused: long}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "log.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"number":7,"tor`)
	if err = errors.Join(err, f.Close(), s.Note(Entry{Number: 9999})); err != nil {
		t.Fatal(err)
	}
	all, err := s.Log(3)
	got := []int{}
	for _, e := range all {
		got = append(got, e.Number)
	}
	if err != nil || !slices.Equal(got, []int{9999, 1099, 1098}) {
		t.Errorf("got %v, %v", got, err)
	}
	if info, err := f.Stat(); err == nil && info.Size() > 2*maxLog {
		t.Errorf("%d bytes", info.Size())
	}
}
