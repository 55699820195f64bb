package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gatepost/internal/testkit"
)

// maildir is where the next hop puts what it gets.
type maildir struct {
	dir string

	mu    sync.Mutex
	files map[string]string // by Message-ID: the file
	n     int
}

func newMaildir(dir string) *maildir { return &maildir{dir: dir, files: make(map[string]string)} }

func (m *maildir) create() error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// deliver writes a message as a Maildir wants it: whole in tmp, then renamed.
func (m *maildir) deliver(mail testkit.Mail) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	name := fmt.Sprintf("%d.%d_%d.tryout", time.Now().Unix(), os.Getpid(), m.n)
	tmp, file := filepath.Join(m.dir, "tmp", name), filepath.Join(m.dir, "new", name)
	text := "Return-Path: " + mail.From + "\n" + strings.ReplaceAll(string(mail.Data), "\r\n", "\n")
	err := os.WriteFile(tmp, []byte(text), 0o644)
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tryout:", err)
		return
	}
	m.files[headerOf(text, "Message-ID")] = file
}

// find returns the file of the message with that Message-ID, "" while there is
// none.
func (m *maildir) find(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[id]
}

// headerOf returns a header field's value.
func headerOf(text, name string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return ""
		}
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
