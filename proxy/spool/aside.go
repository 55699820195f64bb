package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// setAside copies what is damaged to the directory for that, and reports
// whether it is there.
func (s *Spool) setAside(name string, b []byte, why string) bool {
	s.damaged.Store(true)
	f, err := s.corruptDir.create(name)
	if errors.Is(err, fs.ErrExist) {
		s.log.Warn("spool: damaged record, set aside before", "file", name, "why", why)
		return true
	}
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Sync(), f.Close(), s.corruptDir.sync())
	}
	if err != nil {
		s.log.Error("spool: damaged record stays in its segment", "file", name, "why", why, "error", err)
		_ = s.corruptDir.root.Remove(name)
		return false
	}
	s.log.Error("spool: damaged record set aside", "file", name, "bytes", len(b), "why", why)
	return true
}

// recoverLarge compares the large files with the records that refer to them.
func (s *Spool) recoverLarge() error {
	files, err := s.largeDir.list()
	if err != nil {
		return err
	}
	orphans := map[string]fs.DirEntry{}
	for _, f := range files {
		orphans[f.Name()] = f
	}
	s.settleClaims()
	for rec, name := range s.index.large {
		if s.checkLarge(rec, name) {
			delete(orphans, name)
		}
	}
	for name, f := range orphans {
		s.orphan(name, f)
	}
	return nil
}

// settleClaims sees to it that a file belongs to one record, the newest: the
// message of an older one was removed, or the file would not have been written
// again.
func (s *Spool) settleClaims() {
	owners := map[string]*record{}
	for rec, name := range s.index.large {
		owner := owners[name]
		if owner == nil {
			owners[name] = rec
			continue
		}
		older := owner
		if rec.before(owner) {
			older = rec
		} else {
			owners[name] = rec
		}
		s.setRecordAside(older, fmt.Sprintf("file large/%s is another message's", name))
	}
}

// setRecordAside forgets the messages of a record, and keeps a copy of it.
func (s *Spool) setRecordAside(rec *record, why string) {
	b := make([]byte, rec.size)
	if _, err := rec.seg.file.ReadAt(b, int64(rec.at)); err != nil {
		why = fmt.Sprintf("%s (%v)", why, err)
	}
	if !s.setAside(fmt.Sprintf("%s-%08d-%d", contentName, rec.seg.num, rec.at), b, why) {
		rec.seg.keep = true
	}
	s.index.drop(rec)
}

// checkLarge reports whether a record's file is there. Where it is not, the
// record is set aside.
func (s *Spool) checkLarge(rec *record, name string) bool {
	info, err := s.largeDir.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errForeign
	}
	var c *content
	if err == nil {
		c, err = s.meta(found{rec: rec})
	}
	if err == nil && info.Size() < c.large.size {
		err = fmt.Errorf("%w: %d of %d bytes", ErrDamaged, info.Size(), c.large.size)
	}
	if err == nil {
		return true
	}
	s.setRecordAside(rec, fmt.Sprintf("file large/%s: %v", name, err))
	return false
}

// orphan removes a file that no message refers to: a draft that was never
// committed, or a message that is done with. Where records are damaged, it may
// be the content of one of them.
func (s *Spool) orphan(name string, f fs.DirEntry) {
	if !f.Type().IsRegular() || !validID(name) {
		s.log.Warn("spool: foreign file ignored", "log", largeName, "file", name)
		return
	}
	if !s.damaged.Load() && !s.hoard {
		if err := s.large.unlink(name); err != nil {
			s.log.Warn("spool: file without a message stays", "file", name, "error", err)
			return
		}
		s.log.Info("spool: file without a message removed", "file", name)
		return
	}
	to := filepath.Join(corruptName, largeName+"-"+name)
	if err := s.top.root.Rename(filepath.Join(largeName, name), to); err != nil {
		s.log.Error("spool: file without a message stays", "file", name, "error", err)
		return
	}
	s.log.Error("spool: file without a message set aside", "file", name)
}
