package mailq

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Postfix is the queue of one Postfix instance.
type Postfix struct {
	config string // directory; "" for the default instance
	tools  map[string]string
}

// Only what waits between two attempts is touched: what is active is being
// delivered, and what is on hold somebody wants to keep.
const deferred = "deferred"

const (
	toolTime  = 2 * time.Minute // for one small answer
	listTime  = 30 * time.Minute
	batchSize = 50 // messages for one postsuper
)

// NewPostfix finds the programs of Postfix. config is the directory of main.cf
// as their -c wants it, "" for the default.
func NewPostfix(config string) (*Postfix, error) {
	p := &Postfix{tools: make(map[string]string)}
	if config != "" {
		abs, err := filepath.Abs(config)
		if err != nil {
			return nil, fmt.Errorf("mailq: postfix: %w", err)
		}
		if _, err := os.Stat(filepath.Join(abs, "main.cf")); err != nil {
			return nil, fmt.Errorf("mailq: postfix: %w", err)
		}
		p.config = abs
	}
	for _, name := range []string{"postconf", "postqueue", "postcat", "postsuper"} {
		path, err := program(name)
		if err != nil {
			return nil, fmt.Errorf("mailq: postfix: %w", err)
		}
		p.tools[name] = path
	}
	return p, nil
}

// program finds a program where cron's PATH does not lead.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + name)
	}
	return path, err
}

func (p *Postfix) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p.config != "" {
		args = append([]string{"-c", p.config}, args...)
	}
	cmd := exec.CommandContext(ctx, p.tools[name], args...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// output runs a program; its error has what the program said.
func (p *Postfix) output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	var said limited
	cmd := p.command(ctx, name, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("mailq: %s: %w%s", name, err, said.because())
	}
	return string(out), nil
}

// limited keeps the beginning of what a program complains of.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), 4096-len(l.b))]...)
	return len(p), nil
}

func (l *limited) because() string {
	if text := strings.Join(strings.Fields(string(l.b)), " "); text != "" {
		return ": " + text
	}
	return ""
}

// Dir is the queue directory.
func (p *Postfix) Dir(ctx context.Context) (string, error) {
	out, err := p.output(ctx, "postconf", "-xh", "queue_directory")
	return strings.TrimSpace(out), err
}

// Host is the name that this Postfix writes into what it makes.
func (p *Postfix) Host(ctx context.Context) (string, error) {
	out, err := p.output(ctx, "postconf", "-xh", "myhostname")
	return strings.TrimSpace(out), err
}

// Visit shows the messages to v and deletes what it gives up.
func (p *Postfix) Visit(ctx context.Context, v Visitor) error {
	list, err := p.list(ctx, v)
	if err != nil {
		return err
	}
	var batch []letter
	for _, m := range list {
		l, give, err := p.look(ctx, m, v)
		if give {
			batch = append(batch, l)
		}
		if len(batch) == batchSize || err != nil {
			p.remove(ctx, batch, v)
			batch = nil
		}
		if err != nil {
			return err
		}
	}
	p.remove(ctx, batch, v)
	return nil
}

// queued is a line of postqueue -j.
type queued struct {
	Queue      string `json:"queue_name"`
	ID         string `json:"queue_id"`
	Arrival    int64  `json:"arrival_time"`
	Size       int64  `json:"message_size"`
	Sender     string `json:"sender"`
	Recipients []struct {
		Address string `json:"address"`
	} `json:"recipients"`
}

// nobody is how postqueue shows the null sender.
const nobody = "MAILER-DAEMON"

// list returns the messages without a sender that wait for their next attempt.
// It reads all of the queue before anything is done: the other end of the pipe
// is not made to wait.
func (p *Postfix) list(ctx context.Context, v Visitor) (list []Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	var said limited
	cmd := p.command(ctx, "postqueue", "-j")
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("mailq: postqueue: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("mailq: postqueue: %w", err)
	}
	dec := json.NewDecoder(bufio.NewReaderSize(out, 64<<10))
	for err == nil {
		var q queued
		if err = dec.Decode(&q); err == nil {
			list = choose(list, q, v)
		}
	}
	if !errors.Is(err, io.EOF) {
		cancel()
		_ = cmd.Wait()
		return nil, fmt.Errorf("mailq: list of postqueue: %w%s", err, said.because())
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("mailq: postqueue: %w%s", err, said.because())
	}
	return list, nil
}

// queueID is what both forms of Postfix's IDs look like; nothing else gets onto
// a command line.
var queueID = regexp.MustCompile(`^[0-9A-Za-z]{5,40}$`)

func choose(list []Message, q queued, v Visitor) []Message {
	m := Message{ID: q.ID, Null: q.Sender == nobody, Arrival: time.Unix(q.Arrival, 0), Size: q.Size}
	for _, r := range q.Recipients {
		m.Recipients = append(m.Recipients, r.Address)
		if len(m.Recipients) > 1 {
			break // no bounce has more
		}
	}
	switch {
	case !m.Null:
		v.Skipped(m, Ordinary)
	case !queueID.MatchString(q.ID):
		v.Skipped(m, "not an ID of Postfix")
	case q.Queue == "hold":
		v.Skipped(m, "somebody holds it")
	case q.Queue != deferred:
		v.Skipped(m, "it is being delivered")
	default:
		return append(list, m)
	}
	return list
}

// letter is a message that was read, with its envelope as postcat shows it.
type letter struct {
	Message
	envelope string
}

// look reads a message and asks v about it.
func (p *Postfix) look(ctx context.Context, m Message, v Visitor) (l letter, give bool, err error) {
	l.Message = m
	judged := error(nil)
	err = p.read(ctx, m.ID, func(e envelope, content io.Reader) {
		l.envelope, l.Null, l.Foreign = e.text, e.null, e.foreign
		give, judged = v.Judge(ctx, l.Message, content)
	})
	switch {
	case judged != nil:
		return l, give, judged
	case ctx.Err() != nil:
		return l, false, ctx.Err()
	case err != nil:
		v.Skipped(m, err.Error()) // most likely it was delivered meanwhile
		return l, false, nil
	}
	return l, give, nil
}

// read has postcat show a message and hands its content to use. Most of a large
// message is not asked for: then postcat is ended.
func (p *Postfix) read(ctx context.Context, id string, use func(e envelope, content io.Reader)) error {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	cmd := p.command(ctx, "postcat", "-q", id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("mailq: postcat: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("mailq: postcat: %w", err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed, most likely; what it read was complete
	}()
	content := bufio.NewReaderSize(out, maxEnvelopeLine)
	e, err := readEnvelope(content, id)
	if err != nil {
		return err
	}
	use(e, content)
	return nil
}

// remove deletes messages that still are what they were when they were read.
// That is asked as late as possible: Postfix's short IDs are used again. What
// has begun is brought to its end, whatever becomes of ctx.
func (p *Postfix) remove(ctx context.Context, batch []letter, v Visitor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), toolTime)
	defer cancel()
	var ids bytes.Buffer
	var same []letter
	for _, l := range batch {
		if err := p.check(ctx, l); err != nil {
			v.Deleted(l.Message, err)
			continue
		}
		same = append(same, l)
		ids.WriteString(l.ID + "\n")
	}
	if len(same) == 0 {
		return
	}
	cmd := p.command(ctx, "postsuper", "-d", "-", deferred)
	cmd.Stdin = &ids
	out, err := cmd.CombinedOutput()
	for _, l := range same {
		switch {
		case bytes.Contains(out, []byte(": "+l.ID+": removed\n")):
			v.Deleted(l.Message, nil)
		case err != nil:
			said := limited{}
			_, _ = said.Write(out)
			v.Deleted(l.Message, fmt.Errorf("mailq: postsuper: %w%s", err, said.because()))
		default:
			v.Deleted(l.Message, ErrGone)
		}
	}
}

func (p *Postfix) check(ctx context.Context, l letter) error {
	err := ErrChanged
	gone := p.read(ctx, l.ID, func(e envelope, _ io.Reader) {
		if e.text == l.envelope {
			err = nil
		}
	})
	if gone != nil {
		return gone
	}
	return err
}
