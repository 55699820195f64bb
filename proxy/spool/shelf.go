package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// Files that are kept to be written again. A file with its blocks in place
	// and its name known to the disk takes a third of the time of a new one.
	maxSpareFiles = 32
	maxSpareSize  = 2 << 20
)

// shelf is the files of large messages. A file bears the name of the message
// that it was made for; later it may hold another one.
type shelf struct {
	dir   *dir
	step  func(string) error
	names *syncer // of the directory

	mu      sync.Mutex
	spare   []*largeFile
	readers map[string]int // open Contents of each file
}

// largeFile is a file that is being written. Nothing refers to it yet.
type largeFile struct {
	name   string
	file   *os.File
	ticket uint64 // of the sync that makes its name durable
	size   int64
}

func newShelf(d *dir, step func(string) error) *shelf {
	sh := &shelf{dir: d, step: step, readers: map[string]int{}}
	sh.names = newSyncer(func() error {
		if err := step(stepLargeDirSync); err != nil {
			return err
		}
		return d.sync()
	})
	return sh
}

// take returns a file to be written from its beginning. Without a record that
// refers to it, it is nothing.
func (sh *shelf) take(id string) (*largeFile, error) {
	sh.mu.Lock()
	if n := len(sh.spare); n > 0 {
		f := sh.spare[n-1]
		sh.spare = sh.spare[:n-1]
		sh.mu.Unlock()
		return f, nil
	}
	sh.mu.Unlock()
	if !validID(id) {
		return nil, errors.New("bad id")
	}
	if err := sh.step(stepDraftCreate); err != nil {
		return nil, err
	}
	file, err := sh.dir.create(id)
	if err != nil {
		return nil, err
	}
	return &largeFile{name: id, file: file, ticket: sh.names.ticket()}, nil
}

func (sh *shelf) write(f *largeFile, p []byte, at int64) (int, error) {
	if err := sh.step(stepDraftWrite); err != nil {
		return 0, err
	}
	n, err := f.file.WriteAt(p, at)
	f.size = max(f.size, at+int64(n))
	return n, err
}

// seal makes the first size bytes durable, then the name. All who wait for a
// name share one sync.
func (sh *shelf) seal(f *largeFile, size int64) error {
	if err := sh.step(stepLargeSync); err != nil {
		return err
	}
	if f.size/2 > size {
		if err := f.file.Truncate(size); err != nil {
			return err
		}
	}
	if err := ignoreEINTR(func() error { return unix.Fdatasync(int(f.file.Fd())) }); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return sh.names.wait(f.ticket)
}

// put takes back a file that was not used after all. One that failed is not
// trusted again.
func (sh *shelf) put(f *largeFile, failed bool) error {
	if !failed && f.size <= maxSpareSize && sh.keep(f) {
		return nil
	}
	return errors.Join(f.file.Close(), sh.unlink(f.name))
}

func (sh *shelf) keep(f *largeFile) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.spare) >= maxSpareFiles {
		return false
	}
	sh.spare = append(sh.spare, f)
	return true
}

// done ends the file of a removed message, when that is durable. While somebody
// reads it, it must not be written again.
func (sh *shelf) done(name string) error {
	sh.mu.Lock()
	again := sh.readers[name] == 0 && len(sh.spare) < maxSpareFiles
	sh.mu.Unlock()
	if !again {
		return sh.unlink(name)
	}
	file, err := sh.dir.open(name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := file.Stat()
	failed := err != nil || shared(file) || sh.step(stepLargeKeep) != nil
	if !failed {
		return sh.put(&largeFile{name: name, file: file, size: info.Size()}, false)
	}
	return sh.put(&largeFile{name: name, file: file}, true)
}

// clear gives the space of all spare files back.
func (sh *shelf) clear() error {
	sh.mu.Lock()
	spare := sh.spare
	sh.spare = nil
	sh.mu.Unlock()
	var errs []error
	for _, f := range spare {
		errs = append(errs, f.file.Close(), sh.unlink(f.name))
	}
	return errors.Join(errs...)
}

func (sh *shelf) unlink(name string) error {
	if err := sh.step(stepLargeUnlink); err != nil {
		return err
	}
	if err := sh.dir.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hold keeps a file from being written again until release.
func (sh *shelf) hold(name string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.readers[name]++
}

func (sh *shelf) release(name string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.readers[name]--; sh.readers[name] == 0 {
		delete(sh.readers, name)
	}
}

// space is what the spare files take.
func (sh *shelf) space() (n int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, f := range sh.spare {
		n += f.size
	}
	return n
}

// open opens the file of a committed message for reading.
func (sh *shelf) open(ref largeRef) (*os.File, error) {
	f, err := sh.dir.open(ref.name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < ref.size {
		err = fmt.Errorf("%s: %w: %d of %d bytes", ref.name, ErrDamaged, info.Size(), ref.size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
