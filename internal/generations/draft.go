package generations

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Draft gathers the texts of a generation while its rules are read: what is
// judged by is what is kept. It belongs to one goroutine.
type Draft struct {
	store *Store
	files map[string]File
	fixed bool // no other files are read
}

// Bounds of what one generation may have.
const (
	maxFile  = 512 << 20
	maxFiles = 10_000
)

// Open copies a file into the store, and opens the copy. What was read once is
// not read again.
func (d *Draft) Open(path string) (io.ReadCloser, error) {
	if f, ok := d.files[path]; ok {
		return d.store.blob(f)
	}
	if d.fixed {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	if info, err := from.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("is no file")}
	}
	if err := d.Put(path, from); err != nil {
		return nil, err
	}
	return d.store.blob(d.files[path])
}

// Put has a text stand for a file.
func (d *Draft) Put(path string, from io.Reader) error {
	if len(d.files) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	f, err := d.store.keep(from)
	if err != nil {
		return &fs.PathError{Op: "keep", Path: path, Err: err}
	}
	f.Path = path
	d.files[path] = f
	return nil
}

// Add has a file that is kept stand for itself.
func (d *Draft) Add(f File) { d.files[f.Path] = f }

// Remove forgets a file: it is not there.
func (d *Draft) Remove(path string) { delete(d.files, path) }

// Again makes a draft of what a generation has, and of nothing else.
func (s *Store) Again(g Generation) *Draft {
	d := s.Draft()
	d.fixed = true
	for _, f := range g.Files {
		d.Add(f)
	}
	return d
}

// Files are the texts, by their paths.
func (d *Draft) Files() []File {
	all := []File{}
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		all = append(all, d.files[path])
	}
	return all
}

// Sum is another where a file is another, but for those of leave.
func (d *Draft) Sum(rules []string, leave func(path string) bool) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", rules)
	for _, f := range d.Files() {
		if !leave(f.Path) {
			fmt.Fprintf(h, "%q %s\n", f.Path, f.SHA256)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// keep writes a text into the store, where it is not there yet.
func (s *Store) keep(from io.Reader) (File, error) {
	dir := s.path("blobs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return File{}, err
	}
	to, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return File{}, err
	}
	defer os.Remove(to.Name()) // it is not there any more when all went well
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(from, maxFile+1))
	if err == nil && n > maxFile {
		err = fmt.Errorf("larger than %d MB", maxFile>>20)
	}
	if err = errors.Join(err, s.step("rules.blob"), to.Sync(), to.Close()); err != nil {
		return File{}, err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	return File{SHA256: sum, Size: n}, os.Rename(to.Name(), filepath.Join(dir, sum))
}

// blob opens a text that is kept. One that is not what it was is no text.
func (s *Store) blob(f File) (io.ReadCloser, error) {
	if len(f.SHA256) != 2*sha256.Size || filepath.Base(f.SHA256) != f.SHA256 {
		return nil, fmt.Errorf("%s: no text is called %q", f.Path, f.SHA256)
	}
	from, err := os.Open(s.path("blobs", f.SHA256))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, from); err == nil && hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
		err = errors.New("is damaged")
		return nil, &fs.PathError{Op: "open", Path: from.Name(), Err: errors.Join(err, from.Close())}
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, from.Close())
	}
	return from, nil
}

// Text reads a file of a generation.
func (s *Store) Text(g Generation, path string) ([]byte, error) {
	at := slices.IndexFunc(g.Files, func(f File) bool { return f.Path == path })
	if at < 0 {
		return nil, fmt.Errorf("generations: %s: %w", path, fs.ErrNotExist)
	}
	from, err := s.blob(g.Files[at])
	if err != nil {
		return nil, fmt.Errorf("generations: %w", err)
	}
	defer from.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(from); err != nil {
		return nil, fmt.Errorf("generations: %w", err)
	}
	return b.Bytes(), nil
}
