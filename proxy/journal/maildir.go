package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// makeMaildir makes a Maildir where there is none.
func makeMaildir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range []string{"tmp", "new", "cur"} {
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return syncDir(root, ".")
}

// deliver writes a copy into a Maildir. It is durable when deliver returns: the
// file before its name in new, and that name with its directory.
func (r *record) deliver(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	name := fmt.Sprintf("%d.%s.%s", r.now.Unix(), r.id, r.journal.Hostname)
	if err := r.writeFile(root, "tmp/"+name); err != nil {
		return errors.Join(err, root.Remove("tmp/"+name))
	}
	if err := root.Rename("tmp/"+name, "new/"+name); err != nil {
		return errors.Join(err, root.Remove("tmp/"+name))
	}
	return syncDir(root, "new")
}

func (r *record) writeFile(root *os.Root, name string) (err error) {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 64<<10)
	if _, err := w.Write(append(r.header().Bytes(), "\r\n"...)); err != nil {
		return err
	}
	if err := r.writeBody(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
