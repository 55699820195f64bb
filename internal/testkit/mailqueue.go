package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Waiting is a message in the queue of an MTA.
type Waiting struct {
	ID    string
	Queue string // "deferred", "hold", …
	To    string // its first recipient
}

// ConfigDir is the directory of main.cf.
func (p *Postfix) ConfigDir() string { return p.etc }

// Waiting lists the queue.
func (p *Postfix) Waiting() ([]Waiting, error) {
	out, err := exec.Command("postqueue", "-c", p.etc, "-j").Output()
	if err != nil {
		return nil, fmt.Errorf("testkit: postqueue: %w", err)
	}
	var all []Waiting
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var q struct {
			ID         string `json:"queue_id"`
			Queue      string `json:"queue_name"`
			Recipients []struct {
				Address string `json:"address"`
			} `json:"recipients"`
		}
		err := d.Decode(&q)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil || len(q.Recipients) == 0 {
			return nil, fmt.Errorf("testkit: postqueue: %s: %v", out, err)
		}
		all = append(all, Waiting{q.ID, q.Queue, q.Recipients[0].Address})
	}
}

// Content is a message of the queue, its header and its body.
func (p *Postfix) Content(id string) ([]byte, error) {
	out, err := exec.Command("postcat", "-c", p.etc, "-bh", "-q", id).Output()
	if err != nil {
		return nil, fmt.Errorf("testkit: postcat %s: %w", id, err)
	}
	return out, nil
}

// Tool runs postsuper, postqueue or sendmail of this Postfix.
func (p *Postfix) Tool(stdin []byte, name string, args ...string) error {
	flag := "-c"
	if name == "sendmail" {
		flag = "-C"
	}
	cmd := exec.Command(name, append([]string{flag, p.etc}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("testkit: %s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

// QueueFiles are the directories with Postfix's messages.
func (p *Postfix) QueueFiles() []string {
	var dirs []string
	for _, name := range []string{"maildrop", "incoming", "active", "deferred", "hold", "corrupt"} {
		dirs = append(dirs, filepath.Join(p.dir, "spool", name))
	}
	return dirs
}

// ConfigFile is sendmail.cf.
func (s *Sendmail) ConfigFile() string { return s.file("sendmail.cf") }

// QueueDir is the directory above the queue files.
func (s *Sendmail) QueueDir() string { return s.file("queue") }

// Run runs this sendmail with other arguments and returns what it says.
func (s *Sendmail) Run(stdin []byte, args ...string) (string, error) {
	cmd := exec.Command("unshare", s.command(args...)...)
	cmd.Env, cmd.Stdin = append(os.Environ(), s.env...), bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("testkit: sendmail %v: %w\n%s", args, err, out)
	}
	return string(out), nil
}

// Waiting lists the queue files, wherever below the queue directory they are.
func (s *Sendmail) Waiting() ([]Waiting, error) {
	var all []Waiting
	err := filepath.WalkDir(s.QueueDir(), func(path string, d fs.DirEntry, err error) error {
		id, ok := strings.CutPrefix(d.Name(), "qf")
		if err != nil || d.IsDir() || !ok {
			return err
		}
		b, err := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			_, to, ok := strings.Cut(line, ":")
			if line[0] == 'R' && ok {
				all = append(all, Waiting{id, path, strings.Trim(to, "<>\n")})
			}
		}
		return err
	})
	slices.SortFunc(all, func(a, b Waiting) int { return strings.Compare(a.ID, b.ID) })
	return all, err
}
