// Package generations keeps what the rules of a site were made of: each
// generation of rule files, lists and access map as a whole, the last ones of
// them, and who made them, when and why.
//
// Texts lie in blobs/ under the sum of what is in them, and are never changed.
// A generation is one small file that names them. It is written when all of its
// texts are on the disk, by a rename: after a crash there is the one before, or
// this one. The one with the highest number is in use.
package generations

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// File is a text that was read.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Count is how long a list was.
type Count struct {
	List    string `json:"list"`
	Entries int    `json:"entries"`
	// Changes of it are meant: rules or commands add and remove.
	Live bool `json:"live,omitempty"`
}

// Generation is what the gateway judges by.
type Generation struct {
	Number  int       `json:"number"`
	Name    string    `json:"name"` // what verdicts call it
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	Reason  string    `json:"reason"`
	From    string    `json:"from"` // "start", "reload", "apply", "rollback 3", "list NAME"
	Forced  bool      `json:"forced,omitempty"`
	Rules   []string  `json:"rules"` // the rule files, in their order
	Files   []File    `json:"files"`
	Lists   []Count   `json:"lists,omitempty"`
	Access  int       `json:"access,omitempty"` // entries of the access map
	Changes []string  `json:"changes"`          // from the one before, in words
	// Site is the sum of what the configuration named when that was last taken:
	// as long as it is the same, what was applied or rolled back since stays.
	Site string `json:"site"`
}

// Config says where generations are kept.
type Config struct {
	Dir string
	// Keep is how many there are.
	Keep int
	// Failpoint is asked at each step of writing; nil: never.
	Failpoint func(step string) error
}

// Steps are those of Failpoint.
func Steps() []string {
	return []string{"rules.blob", "rules.blobs", "rules.write", "rules.rename", "rules.done"}
}

// Store is a folder of generations. Any number of goroutines may use one.
type Store struct {
	cfg Config
	mu  sync.Mutex
}

// New makes a store of a folder, which is made when there is something to keep.
func New(cfg Config) (*Store, error) {
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("generations: %q is no absolute path", cfg.Dir)
	}
	if cfg.Keep < 1 {
		return nil, errors.New("generations: none are to be kept")
	}
	return &Store{cfg: cfg}, nil
}

func (s *Store) step(name string) error {
	if s.cfg.Failpoint == nil {
		return nil
	}
	return s.cfg.Failpoint(name)
}

const (
	suffix      = ".json"
	maxManifest = 16 << 20
)

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, elem...)...)
}

func fileOf(number int) string { return fmt.Sprintf("%08d%s", number, suffix) }

// numbers lists the generations that there are, the oldest first.
func (s *Store) numbers() ([]int, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("generations: %w", err)
	}
	var all []int
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.Atoi(name); ok && err == nil && fileOf(n) == e.Name() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// ErrNone is the error of a generation that is not there.
var ErrNone = errors.New("no such generation")

// Current is the newest one; where there is none, that is ErrNone.
func (s *Store) Current() (Generation, error) {
	numbers, err := s.numbers()
	if err != nil {
		return Generation{}, err
	}
	if len(numbers) == 0 {
		return Generation{}, ErrNone
	}
	return s.Get(numbers[len(numbers)-1])
}

// Get reads a generation.
func (s *Store) Get(number int) (g Generation, err error) {
	f, err := os.Open(s.path(fileOf(number)))
	if errors.Is(err, fs.ErrNotExist) {
		return g, fmt.Errorf("generations: %d: %w", number, ErrNone)
	}
	if err != nil {
		return g, fmt.Errorf("generations: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxManifest)).Decode(&g); err != nil {
		return g, fmt.Errorf("generations: %s: %w", f.Name(), err)
	}
	return g, nil
}

// All reads all that are kept, the newest first.
func (s *Store) All() ([]Generation, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}
	var all []Generation
	for _, n := range numbers {
		g, err := s.Get(n)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b Generation) int { return cmp.Compare(b.Number, a.Number) })
	return all, nil
}

// Draft begins a generation.
func (s *Store) Draft() *Draft { return &Draft{store: s, files: make(map[string]File)} }

// Commit keeps a draft as the next generation, durably, and returns it. Older
// ones than are to be kept go.
func (s *Store) Commit(d *Draft, g Generation) (Generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.commit(d, g)
	if err != nil {
		return g, fmt.Errorf("generations: %w", err)
	}
	return g, nil
}

func (s *Store) commit(d *Draft, g Generation) (Generation, error) {
	numbers, err := s.numbers()
	if err != nil {
		return g, err
	}
	g.Number = 1
	if len(numbers) > 0 {
		g.Number = numbers[len(numbers)-1] + 1
	}
	g.Files = d.Files()
	text, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		return g, err
	}
	if err := errors.Join(os.MkdirAll(s.path("blobs"), 0o700), s.step("rules.blobs"), syncDir(s.path("blobs")), s.step("rules.write")); err != nil {
		return g, err
	}
	// The rename is not durable before the folder is: until then it may be the old
	// one after a crash, and nobody was told of the new one.
	err = replace(s.path(fileOf(g.Number)), append(text, '\n'), func() error { return s.step("rules.rename") })
	if err != nil {
		return g, err
	}
	if err := s.step("rules.done"); err != nil {
		return g, err
	}
	s.clean(append(numbers, g.Number))
	return g, nil
}

// clean removes what is too old. What it can't remove is tried again with the
// next generation.
func (s *Store) clean(numbers []int) {
	for len(numbers) > s.cfg.Keep {
		_ = os.Remove(s.path(fileOf(numbers[0])))
		numbers = numbers[1:]
	}
	used := make(map[string]bool)
	for _, n := range numbers {
		g, err := s.Get(n)
		if err != nil {
			return // its texts are not known
		}
		for _, f := range g.Files {
			used[f.SHA256] = true
		}
	}
	blobs, err := os.ReadDir(s.path("blobs"))
	if err != nil {
		return
	}
	for _, b := range blobs {
		// Another draft may be made now.
		if info, err := b.Info(); err == nil && !used[b.Name()] && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(s.path("blobs", b.Name()))
		}
	}
}

// replace writes a file in the place of another, durably.
func replace(path string, text []byte, before func() error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is not there any more when all went well
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := before(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteFile writes a file in the place of another, durably.
func WriteFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return replace(path, text, func() error { return nil })
}
