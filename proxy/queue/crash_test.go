package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// The crash tests run this test binary again as a process that accepts and
// delivers, and kill it. Both sides of it are written down in a ledger: what
// was durably accepted, and what the next hop took.

const crashEnv = "GATEPOST_QUEUE_CRASH" // "dir messages workers step hit"

func TestMain(m *testing.M) {
	if arg := os.Getenv(crashEnv); arg != "" {
		if err := crashChild(strings.Fields(arg)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ledger appends lines that survive the death of the process. A kill may tear
// one: what doesn't end in a full stop doesn't count.
type ledger struct{ f *os.File }

func (l ledger) add(format string, args ...any) {
	if _, err := fmt.Fprintf(l.f, "\n"+format+" .\n", args...); err != nil {
		panic(err)
	}
}

// booked is a next hop that takes down what it takes: refuse.example refuses,
// defer.example puts off once in each life.
type booked struct {
	ledger ledger
	mu     sync.Mutex
	put    map[string]bool
}

func (b *booked) Route(rcpt mail.Address) (string, bool) { return rcpt.Domain, true }

var reportedID = regexp.MustCompile(`X-Gatepost-ID: (\S+)`)

func (b *booked) Deliver(_ context.Context, dest string, facts mail.Facts, env mail.Envelope, content mail.Content) []mail.Outcome {
	var text bytes.Buffer
	if _, err := content.WriteTo(&text); err != nil {
		panic(err)
	}
	id := facts.ID
	s := seen{dest: dest, id: id}
	for _, r := range env.Recipients {
		s.rcpts = append(s.rcpts, r.String())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case dest == "refuse.example":
		return refuse(context.Background(), s)
	case dest == "defer.example" && !b.put[id]:
		b.put[id] = true
		return deferAll(context.Background(), s)
	case dest == "stuck.example":
		return deferAll(context.Background(), s)
	}
	if dest == "sender.example" {
		id = "bounce-of-" + reportedID.FindStringSubmatch(text.String())[1]
	} else if !strings.Contains(text.String(), "Body of "+id) {
		panic("content of " + id + " is " + text.String())
	}
	for _, r := range s.rcpts {
		b.ledger.add("delivered %s %s %s", id, r, s.id)
	}
	return accept(context.Background(), s)
}

// killer makes the process kill itself at the n-th hit of a step.
func killer(step string, n int) func(string) error {
	var mu sync.Mutex
	return func(s string) error {
		if s != step {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n--; n == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
}

// crashChild accepts so many messages, releases what is held, ends what is
// stuck, and ends when the spool is empty.
func crashChild(arg []string) error {
	dir, step := arg[0], arg[3]
	messages, _ := strconv.Atoi(arg[1])
	workers, _ := strconv.Atoi(arg[2])
	hit, _ := strconv.Atoi(arg[4])
	sp, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "spool")})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "ledger"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	book := ledger{f}
	cfg := DefaultConfig()
	cfg.FirstRetry, cfg.MaxRetry, cfg.SlowRetry, cfg.MaxDeliveries = 10*time.Millisecond, 20*time.Millisecond, 10*time.Millisecond, workers
	q, err := New(cfg, Deps{
		Spool: sp, Deliverer: &booked{ledger: book, put: make(map[string]bool)}, Log: slog.New(slog.DiscardHandler),
		Hostname: "mx1.example.com", Failpoint: killer(step, hit),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var runErr error
	wg.Go(func() { _ = sp.Run(ctx) })
	wg.Go(func() { runErr = q.Run(ctx) })
	for i := range messages {
		if err := crashAccept(sp, q, book, i); err != nil {
			return err
		}
	}
	if err := crashDrain(ctx, sp, q); err != nil {
		return err
	}
	cancel()
	wg.Wait()
	return errors.Join(runErr, sp.Close())
}

func crashAccept(sp *spool.Spool, q *Queue, book ledger, i int) error {
	id := mail.NewID(time.Now())
	kinds := [][]string{{"ok.example"}, {"refuse.example"}, {"defer.example"}, {"ok.example", "refuse.example", "defer.example"}, {"ok.example"}, {"stuck.example"}}
	e := spool.Entry{ID: id, Group: id, Received: time.Now(), Origin: spool.FromSMTP, State: spool.Queue, Header: []byte("Subject: x\r\n")}
	if i%len(kinds) == 4 {
		e.State, e.Reason = spool.Hold, "to be released"
	}
	e.Envelope.Sender.Address = mail.Address{Local: "alice", Domain: "sender.example"}
	for _, d := range kinds[i%len(kinds)] {
		e.Envelope.Recipients = append(e.Envelope.Recipients, mail.Path{Address: mail.Address{Local: "bob", Domain: d}})
	}
	d := sp.Draft(id)
	if _, err := io.WriteString(d, "Body of "+id+"\r\n"); err != nil {
		return err
	}
	if err := sp.Commit(context.Background(), d, e); err != nil {
		return err
	}
	for _, r := range e.Envelope.Recipients {
		book.add("accepted %s %s", id, r.String())
	}
	q.Accepted(id)
	return nil
}

func crashDrain(ctx context.Context, sp *spool.Spool, q *Queue) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		n := 0
		for m := range sp.All() {
			n++
			if err := crashAdmin(ctx, q, m); err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, spool.ErrNotFound) {
				return err
			}
		}
		if n == 0 {
			return nil
		}
	}
	return errors.New("the spool did not drain")
}

// crashAdmin releases what is held. What is stuck goes to the slow lane, back
// again, and is given up.
func crashAdmin(ctx context.Context, q *Queue, m *spool.Message) (err error) {
	switch {
	case m.Progress.State == spool.Hold:
		_, err = q.Release(ctx, m.ID)
	case m.Envelope.Recipients[0].Domain != "stuck.example" || m.Attempts == 0:
	case m.Progress.State == spool.Slow:
		_, err = q.Move(ctx, Retry, m.ID)
	case m.Attempts%2 == 0:
		_, err = q.Move(ctx, Slow, m.ID)
	case m.Attempts > 4:
		_, err = q.Bounce(ctx, m.ID)
	}
	return err
}

// child starts a life of the process. It returns whether it was killed.
func child(t *testing.T, dir string, messages, workers int, step string, hit int, killAfter time.Duration) (killed bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", fmt.Sprintf("%s=%s %d %d %s %d", crashEnv, dir, messages, workers, step, hit))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if killAfter > 0 {
		time.AfterFunc(killAfter, func() { _ = cmd.Process.Kill() })
	}
	err = cmd.Wait()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return true
	}
	t.Fatalf("child: %v\n%s", err, out.String())
	return false
}

// audit compares both sides of the ledger. A kill may make as many duplicates
// as deliveries were under way.
func audit(t *testing.T, dir string, duplicates int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	accepted, delivered, bounces := make(map[string]bool), make(map[string]int), make(map[string]map[string]bool)
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 4 || w[len(w)-1] != "." {
			continue
		}
		if w[0] == "accepted" {
			accepted[w[1]+" "+w[2]] = true
			continue
		}
		delivered[w[1]+" "+w[2]]++
		if bounces[w[1]] == nil {
			bounces[w[1]] = make(map[string]bool)
		}
		bounces[w[1]][w[3]] = true
	}
	if len(accepted) == 0 {
		t.Fatal("nothing was accepted")
	}
	extra := 0
	for key := range accepted {
		id, rcpt, _ := strings.Cut(key, " ")
		copies := 1
		if strings.HasSuffix(rcpt, "@refuse.example") || strings.HasSuffix(rcpt, "@stuck.example") {
			key = "bounce-of-" + id + " alice@sender.example"
			// One of who failed at once, one of who failed in the end.
			if copies = len(bounces["bounce-of-"+id]); copies > 2 {
				t.Errorf("%d notifications about %s", copies, id)
			}
		}
		switch n := delivered[key]; {
		case n == 0:
			t.Errorf("lost: %s", key)
		default:
			extra += n - copies
		}
	}
	if extra > duplicates {
		t.Errorf("%d duplicates, at most %d are explained", extra, duplicates)
	}
}

// Q1: killed at each step, in the midst and again at once: each message is
// delivered, or its sender told; with one delivery at a time there is at most
// one duplicate for a kill.
func TestKilledAtEachStep(t *testing.T) {
	for _, step := range Steps() {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			if !child(t, dir, 18, 1, step, 3, 0) {
				t.Errorf("the process did not come to %s three times", step)
			}
			kills := 1
			if child(t, dir, 0, 1, step, 1, 0) {
				kills++
			}
			if child(t, dir, 0, 1, "none", 0, 0) {
				t.Error("killed without a reason")
			}
			audit(t, dir, kills)
		})
	}
}

// Killed at any time, under load, again and again.
func TestKilledAtRandom(t *testing.T) {
	const workers = 8
	lives := 12
	if testing.Short() {
		lives = 3
	}
	dir := t.TempDir()
	kills := 0
	for range lives {
		if child(t, dir, 200, workers, "none", 0, time.Duration(20+rand.IntN(250))*time.Millisecond) {
			kills++
		}
	}
	if kills == 0 {
		t.Error("no life was killed")
	}
	if child(t, dir, 10, workers, "none", 0, 0) {
		t.Error("killed without a reason")
	}
	audit(t, dir, kills*workers)
}
