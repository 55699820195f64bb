package mailq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sendmail is the queues of one sendmail.
type Sendmail struct {
	host  string // $j; "" where only sendmail can tell
	paths []string
}

// NewSendmail reads which queues there are from a configuration file.
func NewSendmail(cf string) (*Sendmail, error) {
	s, err := readCF(cf)
	if err != nil {
		return nil, fmt.Errorf("mailq: sendmail: %w", err)
	}
	return s, nil
}

// Host is the name that this sendmail writes into what it makes. "" is one that
// the configuration leaves to the DNS.
func (s *Sendmail) Host() string { return s.host }

// Dir is the directory that is above all queues of the first group, or is its
// only one.
func (s *Sendmail) Dir() string { return strings.TrimRight(wildcardBase(s.paths[0]), "/") }

// Visit shows the messages to v and deletes what it gives up. The lock that
// sendmail itself takes is held from the first look to the last unlink.
func (s *Sendmail) Visit(ctx context.Context, v Visitor) error {
	dirs, err := s.queues()
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := d.visit(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// queueDir is one queue: where its files of each kind are, and whose they are.
type queueDir struct {
	qf, df, xf string
	owner      uint32
}

// queues returns the directories that the configured paths stand for.
func (s *Sendmail) queues() ([]queueDir, error) {
	var all []queueDir
	var known []string
	for _, path := range s.paths {
		dirs, err := expand(path)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			real, err := filepath.EvalSymlinks(dir)
			if err != nil {
				return nil, fmt.Errorf("mailq: queue directory: %w", err)
			}
			if slices.Contains(known, real) {
				continue
			}
			known = append(known, real)
			d, err := newQueueDir(real)
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
	}
	return all, nil
}

// expand finds the directories of a path; one that ends in "*" stands for all,
// and symbolic links to such, whose names begin so.
func expand(path string) ([]string, error) {
	prefix, wild := strings.CutSuffix(path, "*")
	if !wild {
		return []string{path}, nil
	}
	parent, begin := filepath.Split(prefix)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("mailq: queue directory: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		dir := filepath.Join(parent, e.Name())
		if info, err := os.Stat(dir); err == nil && info.IsDir() && strings.HasPrefix(e.Name(), begin) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// newQueueDir knows the sub-directories qf, df and xf that a queue may have.
func newQueueDir(dir string) (queueDir, error) {
	d := queueDir{qf: dir, df: dir, xf: dir}
	info, err := os.Stat(dir)
	if err != nil {
		return d, fmt.Errorf("mailq: queue directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode()&0o002 != 0 {
		return d, fmt.Errorf("mailq: %s is no directory that only its MTA can write to", dir)
	}
	d.owner = st.Uid
	for name, place := range map[string]*string{"qf": &d.qf, "df": &d.df, "xf": &d.xf} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.IsDir() {
			*place = filepath.Join(dir, name)
		}
	}
	return d, nil
}

func (d queueDir) visit(ctx context.Context, v Visitor) error {
	dir, err := os.Open(d.qf)
	if err != nil {
		return fmt.Errorf("mailq: queue directory: %w", err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			id, ok := strings.CutPrefix(name, "qf")
			if !ok || id == "" {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.one(ctx, id, v); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("mailq: queue directory: %w", err)
		}
	}
}

// one looks at one message, under its lock.
func (d queueDir) one(ctx context.Context, id string, v Visitor) error {
	m := Message{ID: id}
	qf, err := d.lock(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it was delivered meanwhile
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("mailq: queue file: %w", err)
	case err != nil:
		v.Skipped(m, err.Error())
		return nil
	}
	defer qf.Close() // and with it the locks
	c, err := readQF(io.LimitReader(qf, maxQF+1))
	if err != nil {
		v.Skipped(m, err.Error()+"; it is left to sendmail")
		return nil
	}
	m.Null, m.Recipients, m.Arrival, m.Foreign = c.null(), c.recipients, c.created, c.foreign()
	if why := c.obstacle(); why != "" || !m.Null {
		if why == "" {
			why = Ordinary
		}
		v.Skipped(m, why)
		return nil
	}
	df, err := d.open(filepath.Join(d.df, "df"+id), os.O_RDONLY)
	if err != nil {
		v.Skipped(m, "its body: "+err.Error())
		return nil
	}
	defer df.Close()
	if info, err := df.Stat(); err == nil {
		m.Size = info.Size() + int64(len(c.header))
	}
	give, err := v.Judge(ctx, m, io.MultiReader(strings.NewReader(c.header+"\n"), df))
	if give {
		v.Deleted(m, d.remove(id, qf))
	}
	return err
}

// Why a file is not touched.
var (
	errBusy    = errors.New("sendmail is at it")
	errNotFile = errors.New("not a plain file of the MTA's own")
)

// lock opens a queue file and locks it as sendmail does. Debian's is built with
// flock, others with fcntl: whoever has both has the right one. sendmail writes
// a new file and renames it over the old, so the name must still lead to what
// was locked.
func (d queueDir) lock(id string) (*os.File, error) {
	name := filepath.Join(d.qf, "qf"+id)
	f, err := d.open(name, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EACCES) {
			return nil, errBusy
		}
		return nil, fmt.Errorf("mailq: locking: %w", err)
	}
	if !isStill(f, name) {
		_ = f.Close()
		return nil, errBusy
	}
	return f, nil
}

// isStill reports whether name leads to the open file.
func isStill(f *os.File, name string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(mine, there)
}

// open opens a file of the queue: no link, no device, nobody else's.
func (d queueDir) open(name string, flag int) (*os.File, error) {
	f, err := os.OpenFile(name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR) {
		return nil, errNotFile
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode()&0o002 != 0 || st.Nlink != 1 || st.Uid != d.owner && st.Uid != 0 {
		_ = f.Close()
		return nil, errNotFile
	}
	return f, nil
}

// remove deletes a message whose queue file is locked. The queue file goes
// first: without it there is no message, and what a crash leaves is a body that
// sendmail never looks at. The other way round it would deliver an empty one.
func (d queueDir) remove(id string, qf *os.File) error {
	name := filepath.Join(d.qf, "qf"+id)
	if !isStill(qf, name) {
		return ErrChanged
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("mailq: sendmail: %w", err)
	}
	if err := syncDir(d.qf); err != nil {
		return fmt.Errorf("mailq: sendmail: the body of %s is left behind: %w", id, err)
	}
	for _, rest := range []string{filepath.Join(d.df, "df"+id), filepath.Join(d.xf, "xf"+id)} {
		if err := os.Remove(rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mailq: sendmail: %w", err)
		}
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
