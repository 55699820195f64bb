package generations

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Entry is a line of the log: somebody changed the rules, or was refused.
type Entry struct {
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	From    string    `json:"from"`
	Reason  string    `json:"reason"`
	Forced  bool      `json:"forced,omitempty"`
	Number  int       `json:"number,omitempty"` // 0: it was refused
	Name    string    `json:"name,omitempty"`
	Changes []string  `json:"changes,omitempty"`
	Refused string    `json:"refused,omitempty"`
}

// maxLog is how long the log may become before its older half goes.
const maxLog = 2 << 20

const maxRefused = 2000 // bytes of an error

// Note adds to the log.
func (s *Store) Note(e Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(e.Refused) > maxRefused {
		e.Refused = e.Refused[:maxRefused] + "…"
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("generations: %w", err)
	}
	if err := s.append(append(line, '\n')); err != nil {
		return fmt.Errorf("generations: log: %w", err)
	}
	return nil
}

func (s *Store) append(line []byte) error {
	path := s.path("log.jsonl")
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		half := text[len(text)/2:]
		if err := replace(path, half[bytes.IndexByte(half, '\n')+1:], func() error { return nil }); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Size() > 0 { // a crash may have left half a line
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// Log reads the last entries, the newest first.
func (s *Store) Log(most int) ([]Entry, error) {
	f, err := os.Open(s.path("log.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("generations: %w", err)
	}
	defer f.Close()
	var all []Entry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLog)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(lines.Bytes(), &e) == nil { // else it was cut by a crash
			all = append(all, e)
		}
	}
	slices.Reverse(all)
	return all[:min(len(all), most)], lines.Err()
}
