package integration

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// cause is a message that comes back. Its bounce goes to label@victim.test, which
// takes no mail for now.
type cause struct {
	label, header, body string
	goes                bool // its bounce is deleted
}

var causes = []cause{
	{"spam", "X-Spam-Status: Yes, score=12.5 required=5.0 tests=A,B\r\n\tautolearn=no\r\n", "", true},
	{"just-above", "X-Spam-Status: Yes, score=10.01 required=5.0\r\n", "", true},
	{"old-word", "X-Spam-Status: Yes, hits=33.3 required=5.0\r\n", "", true},
	{"score-field", "X-Spam-Score: 25.1\r\n", "", true},
	{"exact", "X-Spam-Status: Yes, score=10.0 required=5.0\r\n", "", false},
	{"exact-long", "X-Spam-Status: Yes, score=10.000 required=5.0\r\n", "", false},
	{"below", "X-Spam-Status: Yes, score=9.99 required=5.0\r\n", "", false},
	{"negative", "X-Spam-Status: No, score=-13.1 required=5.0\r\n", "", false},
	{"none", "", "", false},
	{"in-the-body", "", "X-Spam-Status: Yes, score=99 required=5.0\r\n", false},
	{"two-scores", "X-Spam-Status: Yes, score=99 required=5.0\r\nX-Spam-Status: No, score=1.0 required=5.0\r\n", "", false},
	{"word", "X-Spam-Status: Yes\r\nX-Spam-Flag: YES\r\n", "", false},
}

// spamCauses are the first ones, and this many more.
const moreSpam = 30

func allCauses() []cause {
	all := slices.Clone(causes)
	for i := range moreSpam {
		all = append(all, cause{fmt.Sprintf("more-%d", i), fmt.Sprintf("X-Spam-Status: Yes, score=%d.%d\r\n", 11+i, i%10), "", true})
	}
	return all
}

func (c cause) letter() testkit.Letter {
	data := "From: " + c.label + "@victim.test\r\nTo: no@example.com\r\nSubject: " + c.label + "\r\n" + c.header + "\r\n" + c.body + "text\r\n"
	return testkit.Letter{From: c.label + "@victim.test", To: []string{"no@example.com"}, Data: []byte(data)}
}

// mailHost is the next hop of all: example.com has no such user, everybody else
// is asked to come back later.
func mailHost(t *testing.T) *testkit.Sink {
	s := testkit.NewSink()
	s.Rule = func(verb, arg string) string {
		switch {
		case verb == "RCPT" && strings.Contains(arg, "<no@example.com>"):
			return "550 5.1.1 no such user"
		case verb == "RCPT":
			return "450 4.2.0 later"
		}
		return ""
	}
	return testkit.Up(t, s)
}

// labelled is a queue that is cleaned.
type labelled struct {
	t       *testing.T
	binary  string
	args    []string
	env     []string
	waiting func() ([]testkit.Waiting, error)
	dirs    []string        // with the messages
	keep    map[string]bool // local parts of the recipients of all that must stay
	goes    map[string]bool
}

func newLabelled(t *testing.T, args ...string) *labelled {
	binary, err := binaries.plain()
	if err != nil {
		t.Fatal(err)
	}
	l := &labelled{t: t, binary: binary, args: append([]string{"queue", "clean", "--bounces"}, args...), keep: map[string]bool{}, goes: map[string]bool{}}
	for _, c := range allCauses() {
		if c.goes {
			l.goes[c.label] = true
		} else {
			l.keep[c.label] = true
		}
	}
	return l
}

// labels are the local parts of the recipients in the queue.
func (l *labelled) labels() map[string]bool {
	l.t.Helper()
	list, err := l.waiting()
	if err != nil {
		l.t.Fatal(err)
	}
	all := map[string]bool{}
	for _, w := range list {
		label, _, _ := strings.Cut(w.To, "@")
		if all[label] {
			l.t.Errorf("%s is there twice", label)
		}
		all[label] = true
	}
	return all
}

// want wants all that must stay, and the spam bounces too when none was cleaned.
func (l *labelled) want(cleaned bool) {
	l.t.Helper()
	got := l.labels()
	for label := range l.keep {
		if !got[label] {
			l.t.Errorf("%s is gone", label)
		}
	}
	for label := range l.goes {
		if got[label] == cleaned {
			l.t.Errorf("%s in the queue: %v", label, got[label])
		}
	}
	for label := range got {
		if !l.keep[label] && !l.goes[label] {
			l.t.Errorf("%s in the queue: what is that?", label)
		}
	}
}

// filled waits until the queue has what it should have, each as rests says.
func (l *labelled) filled(rests func(testkit.Waiting) bool) {
	l.t.Helper()
	var list []testkit.Waiting
	ready := func() bool {
		var err error
		if list, err = l.waiting(); err != nil || len(list) != len(l.keep)+len(l.goes) {
			return false
		}
		return !slices.ContainsFunc(list, func(w testkit.Waiting) bool {
			label, _, _ := strings.Cut(w.To, "@")
			return !l.keep[label] && !l.goes[label] || !rests(w)
		})
	}
	deadline := time.Now().Add(60 * time.Second)
	for !ready() {
		if time.Now().After(deadline) {
			l.t.Fatalf("the queue is not filled: %v", list)
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.want(false)
}

func (l *labelled) command(args ...string) *exec.Cmd {
	cmd := exec.Command(l.binary, append(slices.Clone(l.args), args...)...)
	cmd.Env = append(os.Environ(), l.env...)
	return cmd
}

// run wants the command to end with that code.
func (l *labelled) run(code int, args ...string) (stdout, stderr string) {
	l.t.Helper()
	var out, errOut bytes.Buffer
	cmd := l.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		l.t.Fatalf("%v: exit %d, want %d\n%s%s", args, got, code, out.String(), errOut.String())
	}
	return out.String(), errOut.String()
}

// fingerprint is the names, the bytes, the owners and the times of all files.
func (l *labelled) fingerprint() string {
	l.t.Helper()
	h := sha256.New()
	for _, dir := range l.dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			fmt.Fprintln(h, path, info.Mode(), info.Size(), info.ModTime().UnixNano(), st.Ino, st.Uid, st.Gid)
			if !d.Type().IsRegular() {
				return nil
			}
			b, err := os.ReadFile(path)
			_, _ = h.Write(b)
			return err
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// lookOnly wants that a dry run knows all, and touches nothing.
func (l *labelled) lookOnly() {
	l.t.Helper()
	before := l.fingerprint()
	out, errOut := l.run(0, "--dry-run", "--json")
	if after := l.fingerprint(); after != before {
		l.t.Error("a dry run has changed files of the queue")
	}
	if errOut != "" {
		l.t.Errorf("a dry run complains: %s", errOut)
	}
	would := map[string]bool{}
	var lines []map[string]any
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var m map[string]any
		if err := d.Decode(&m); err != nil {
			break
		}
		lines = append(lines, m)
		if m["action"] == "would delete" {
			label, _, _ := strings.Cut(m["to"].(string), "@")
			would[label] = true
		}
	}
	if len(would) != len(l.goes) || len(lines) == 0 || lines[len(lines)-1]["deleted"] != float64(len(l.goes)) {
		l.t.Errorf("dry run: %v\n%s", would, out)
	}
	for label := range would {
		if !l.goes[label] {
			l.t.Errorf("dry run would delete %s", label)
		}
	}
	text, _ := l.run(0, "--dry-run", "--verbose", "--report")
	l.t.Logf("dry run:\n%s", text)
	l.want(false)
}

// killed ends runs of so many deletions with SIGKILL: one at any moment, the next
// as soon as it tells of a deletion. check looks whether the queue is sound after
// each.
func (l *labelled) killed(rounds int, most string, longest time.Duration, check func()) {
	l.t.Helper()
	cut := 0
	for round := range rounds {
		cmd := l.command("--max", most, "--verbose")
		out, err := cmd.StdoutPipe()
		if err != nil {
			l.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			l.t.Fatal(err)
		}
		timer := time.NewTimer(time.Minute)
		if round%2 == 0 {
			timer = time.AfterFunc(rand.N(longest), func() { _ = cmd.Process.Kill() })
		}
		told := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), ": deleted, ") {
				told++
			}
			if round%2 == 1 && told > round/4 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		timer.Stop()
		if cmd.ProcessState.ExitCode() < 0 {
			cut++
		}
		check()
		got := l.labels()
		for label := range l.keep {
			if !got[label] {
				l.t.Fatalf("after a kill %s is gone", label)
			}
		}
	}
	l.t.Logf("%d of %d runs were killed; %d messages left", cut, rounds, len(l.labels()))
}

// finished runs to the end, silently, and wants exactly the right ones gone.
func (l *labelled) finished() {
	l.t.Helper()
	if out, errOut := l.run(0); out+errOut != "" {
		l.t.Errorf("a run that went well says:\n%s%s", out, errOut)
	}
	l.want(true)
	before := l.fingerprint()
	out, _ := l.run(0, "--report")
	if l.fingerprint() != before {
		l.t.Error("a second run has changed something")
	}
	l.t.Logf("report:\n%s", out)
}

// oneStops wants the brake to hold at one deletion.
func (l *labelled) oneStops() {
	l.t.Helper()
	before := len(l.labels())
	if _, errOut := l.run(75, "--max", "1"); !strings.Contains(errOut, "--max") {
		l.t.Errorf("--max says %q", errOut)
	}
	if after := len(l.labels()); after != before-1 {
		l.t.Errorf("--max 1 made %d of %d", after, before)
	}
}

// locked wants a second run to keep away.
func (l *labelled) locked(dir string) {
	l.t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		l.t.Fatal(err)
	}
	if _, errOut := l.run(75); !strings.Contains(errOut, "another run") {
		l.t.Errorf("beside another run: %s", errOut)
	}
}

func TestCleanPostfix(t *testing.T) {
	needRoot(t)
	sink := mailHost(t)
	next := "smtp:[127.0.0.1]:" + testkit.Port(sink.Addr)
	p := testkit.NewMilterPostfix(testkit.Dir(t), sink.Addr, "", "relay_domains = example.com victim.test",
		"transport_maps = static:"+next, "queue_run_delay = 1h", "minimal_backoff_time = 1h", "maximal_backoff_time = 2h",
		// So that no victim is taken for dead, and its mail is put off unread.
		"smtp_destination_concurrency_failed_cohort_limit = 0")
	testkit.Up(t, p)
	l := newLabelled(t, "--mta", "postfix", "--mta-config", p.ConfigDir())
	l.waiting, l.dirs = p.Waiting, p.QueueFiles()
	rests := func(w testkit.Waiting) bool { return w.Queue == "deferred" || w.Queue == "hold" }
	for _, c := range allCauses() {
		sendWant(t, p.Addr, c.letter(), testkit.Dot, 250)
	}
	l.goes["held"], l.goes["logged-in"], l.goes["local-user"] = true, true, true
	held := cause{label: "held", header: "X-Spam-Status: Yes, score=77\r\n"}
	sendWant(t, p.Addr, held.letter(), testkit.Dot, 250)
	loggedIn(t, p.Addr, cause{label: "logged-in", header: "X-Spam-Status: Yes, score=77\r\n"}.letter())
	if err := p.Tool(cause{label: "local-user", header: "X-Spam-Status: Yes, score=77\r\n"}.letter().Data, "sendmail", "-f", "local-user@victim.test", "no@example.com"); err != nil {
		t.Fatal(err)
	}
	l.filled(rests)
	for _, label := range []string{"held", "logged-in", "local-user"} {
		delete(l.goes, label)
		l.keep[label] = true
	}

	// A bounce as real as they come, but from outside, and from a local user.
	byLabel := map[string]testkit.Waiting{}
	list, err := p.Waiting()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		byLabel[strings.TrimSuffix(w.To, "@victim.test")] = w
	}
	real, err := p.Content(byLabel["spam"].ID)
	if err != nil {
		t.Fatal(err)
	}
	sendForged(t, l, p.Addr, real)
	if err := p.Tool(real, "sendmail", "-f", "<>", "forged-here@victim.test"); err != nil {
		t.Fatal(err)
	}
	l.keep["forged-here"] = true
	if err := p.Tool(nil, "postsuper", "-h", byLabel["held"].ID); err != nil {
		t.Fatal(err)
	}
	l.filled(rests)

	l.lookOnly()
	l.locked(filepath.Dir(p.QueueFiles()[0]))
	l.oneStops()
	l.killed(6, "8", 300*time.Millisecond, func() {
		list, err := p.Waiting()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range list {
			if _, err := p.Content(w.ID); err != nil {
				t.Errorf("after a kill: %v", err)
			}
		}
	})
	l.finished()
	if err := p.Tool(nil, "postfix", "check"); err != nil {
		t.Error(err)
	}
}

// sendForged puts into the queue what a stranger sends: a bounce that is a copy of
// a real one, and mail of a spammer.
func sendForged(t *testing.T, l *labelled, addr string, real []byte) {
	t.Helper()
	data := bytes.ReplaceAll(bytes.ReplaceAll(real, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	sendWant(t, addr, testkit.Letter{To: []string{"forged@victim.test"}, Data: data}, testkit.Dot, 250)
	ordinary := cause{header: "X-Spam-Status: Yes, score=99\r\n"}.letter()
	ordinary.From, ordinary.To = "spammer@victim.test", []string{"ordinary@victim.test"}
	sendWant(t, addr, ordinary, testkit.Dot, 250)
	ordinary.From, ordinary.To = "", []string{"no-report@victim.test"}
	sendWant(t, addr, ordinary, testkit.Dot, 250)
	l.keep["forged"], l.keep["ordinary"], l.keep["no-report"] = true, true, true
}

// loggedIn sends as a client that had authenticated: Postfix believes a trusted
// host that says so.
func loggedIn(t *testing.T, addr string, l testkit.Letter) {
	t.Helper()
	c, err := testkit.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"EHLO client.test", "XCLIENT NAME=out.test ADDR=192.0.2.5 LOGIN=alice", "EHLO client.test"} {
		if r, err := c.Cmd(cmd); err != nil || r.Code/100 != 2 {
			t.Fatalf("%s: %v %v", cmd, r, err)
		}
	}
	if res := c.Deliver(l); !res.Accepted() {
		t.Fatal(res)
	}
}

func TestCleanSendmail(t *testing.T) {
	needRoot(t)
	sink := mailHost(t)
	s := testkit.NewSendmail(testkit.Dir(t), sink.Addr, "")
	s.Config = []string{
		"define(`SMART_HOST', `esmtp:[127.0.0.1]')dnl", "define(`confMIN_QUEUE_AGE', `1h')dnl", "define(`confTO_HOSTSTATUS', `1s')dnl",
		"define(`QUEUE_DIR', `" + s.QueueDir() + "/q*')dnl",
	}
	// One queue with a directory for each kind of file, one without.
	for _, dir := range []string{"q1/qf", "q1/df", "q1/xf", "q2"} {
		if err := os.MkdirAll(filepath.Join(s.QueueDir(), dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Up(t, s)
	l := newLabelled(t, "--mta", "sendmail", "--mta-config", s.ConfigFile())
	l.waiting, l.dirs = s.Waiting, []string{s.QueueDir()}
	for _, c := range allCauses() {
		sendWant(t, s.Addr, c.letter(), testkit.Dot, 250)
	}
	l.keep["local-user"] = true
	if _, err := s.Run(cause{label: "local-user", header: "X-Spam-Status: Yes, score=77\r\n"}.letter().Data, "-i", "-f", "local-user@victim.test", "no@example.com"); err != nil {
		t.Fatal(err)
	}
	l.filled(sendmailRests)
	qf := sendmailFile(t, s, "spam", "qf")
	df, err := os.ReadFile(sendmailFile(t, s, "spam", "df"))
	if err != nil {
		t.Fatal(err)
	}
	sendForged(t, l, s.Addr, append(sendmailHeader(t, qf), df...))
	l.filled(sendmailRests)

	l.lookOnly()
	l.locked(s.QueueDir())
	lockedBySendmail(t, l, qf)
	badQueueFiles(t, l, qf)
	l.oneStops()
	// What a run leaves that is killed between the two files of a message.
	if err := os.WriteFile(filepath.Join(s.QueueDir(), "q2", "df6ALEORPHAN0001"), df, 0o600); err != nil {
		t.Fatal(err)
	}
	l.killed(10, "3", 40*time.Millisecond, func() {
		for _, w := range must(s.Waiting())(t) {
			if _, err := os.Stat(strings.Replace(strings.Replace(w.Queue, "/qf/", "/df/", 1), "qf"+w.ID, "df"+w.ID, 1)); err != nil {
				t.Errorf("after a kill: a queue file without a body: %v", err)
			}
		}
	})
	l.finished()
	out, err := s.Run(nil, "-bp")
	if err != nil || !strings.Contains(out, fmt.Sprintf("Total requests: %d", len(l.keep))) {
		t.Errorf("mailq: %v\n%s", err, out)
	}
}

// sendmailRests reports whether sendmail has tried a message once and let it go.
func sendmailRests(w testkit.Waiting) bool {
	f, err := os.OpenFile(w.Queue, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return err == nil && bytes.Contains(b, []byte("\nN1\n")) && syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func must[V any](v V, err error) func(*testing.T) V {
	return func(t *testing.T) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// sendmailFile is the file of that kind of the bounce to label.
func sendmailFile(t *testing.T, s *testkit.Sendmail, label, kind string) string {
	t.Helper()
	for _, w := range must(s.Waiting())(t) {
		if w.To == label+"@victim.test" {
			return strings.Replace(strings.Replace(w.Queue, "/qf/", "/"+kind+"/", 1), "qf"+w.ID, kind+w.ID, 1)
		}
	}
	t.Fatalf("no %s", label)
	return ""
}

// sendmailHeader is the header in a queue file, with the empty line.
func sendmailHeader(t *testing.T, qf string) []byte {
	t.Helper()
	var b bytes.Buffer
	for line := range strings.Lines(string(must(os.ReadFile(qf))(t))) {
		switch {
		case strings.HasPrefix(line, "H?P?"): // the address is filled in on delivery
		case line[0] == 'H':
			b.WriteString(line[strings.LastIndexByte(line[:min(5, len(line))], '?')+1:])
		case line[0] == '\t':
			b.WriteString(line)
		}
	}
	b.WriteString("\n")
	return b.Bytes()
}

// lockedBySendmail wants a message to stay that somebody has locked, in either
// way.
func lockedBySendmail(t *testing.T, l *labelled, qf string) {
	t.Helper()
	f := must(os.OpenFile(qf, os.O_RDWR, 0))(t)
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	out, _ := l.run(0, "--dry-run", "--verbose")
	if id := strings.TrimPrefix(filepath.Base(qf), "qf"); !strings.Contains(out, id+": kept: sendmail is at it") {
		t.Errorf("locked with flock:\n%s", out)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	out, _ = l.run(0, "--dry-run", "--verbose")
	if id := strings.TrimPrefix(filepath.Base(qf), "qf"); !strings.Contains(out, id+": kept: sendmail is at it") {
		t.Errorf("locked with fcntl:\n%s", out)
	}
}

// badQueueFiles wants that nothing but whole queue files of the MTA is touched.
func badQueueFiles(t *testing.T, l *labelled, qf string) {
	t.Helper()
	good := must(os.ReadFile(qf))(t)
	q2 := filepath.Join(l.dirs[0], "q2")
	bad := map[string][]byte{
		"qfBADcut":     good[:len(good)/2],
		"qfBADempty":   {},
		"qfBADletter":  append([]byte("?what\n"), good...),
		"qfBADtrailer": append(slices.Clone(good), "S<>\n"...),
	}
	for name, b := range bad {
		if err := os.WriteFile(filepath.Join(q2, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	for _, err := range []error{
		os.WriteFile(outside, good, 0o600), os.Symlink(outside, filepath.Join(q2, "qfBADlink")),
		syscall.Mkfifo(filepath.Join(q2, "qfBADfifo"), 0o600), os.Mkdir(filepath.Join(q2, "qfBADdir"), 0o700),
		os.WriteFile(filepath.Join(q2, "qfBADowner"), good, 0o600), os.Chown(filepath.Join(q2, "qfBADowner"), 12345, 0),
		os.WriteFile(filepath.Join(q2, "qfBADhard"), good, 0o600), os.Link(filepath.Join(q2, "qfBADhard"), filepath.Join(q2, "hard")),
		os.WriteFile(filepath.Join(q2, "qfBADdf"), good, 0o600), // has no body
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := l.fingerprint()
	out, _ := l.run(0, "--dry-run", "--verbose")
	for _, name := range []string{"cut", "empty", "letter", "trailer", "link", "fifo", "dir", "owner", "hard", "df"} {
		if !strings.Contains(out, "BAD"+name+": kept") {
			t.Errorf("nothing said of BAD%s:\n%s", name, out)
		}
	}
	if before != l.fingerprint() {
		t.Error("changed")
	}
	for _, name := range must(filepath.Glob(filepath.Join(q2, "*BAD*")))(t) {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(filepath.Join(q2, "hard"))
}

// scoringSpamd gives each message the score that its Subject tells.
func scoringSpamd(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				score, r := "0.0", bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if s, ok := strings.CutPrefix(line, "Subject: score "); ok {
						score = strings.TrimSpace(s)
					}
					if strings.HasPrefix(line, "PING") {
						_, _ = io.WriteString(c, "SPAMD/1.5 0 PONG\r\n")
						return
					}
					if err != nil {
						break
					}
				}
				_, _ = io.WriteString(c, "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: True ; "+score+" / 5.0\r\n\r\n")
			}()
		}
	}()
	return listener.Addr().String()
}

func TestCleanOwnQueue(t *testing.T) {
	sink := mailHost(t)
	g := newGateway(t, binaries.plain, sink.Addr)
	g.UseSpamd("tcp:"+scoringSpamd(t), "tempfail")
	g.Config.Set("queue", "dsn_max_score", "0")
	g.Config.Set("queue", "first_retry", `"1h"`)
	g.Config.Set("queue", "max_retry", `"1h"`)
	g.Config.Set("policy", "quarantine", "1000")
	g.Config.Set("policy", "reject", "1000")
	g.Config.Set(`route."victim.test"`, "to", fmt.Sprintf("[%q]", "smtp://"+sink.Addr))
	testkit.Up(t, g)

	l := newLabelled(t, "-c", g.File)
	l.waiting = func() ([]testkit.Waiting, error) {
		list, err := g.Queue()
		var all []testkit.Waiting
		for _, m := range list {
			to := m["recipients"].([]any)[0].(map[string]any)["address"].(string)
			all = append(all, testkit.Waiting{ID: m["id"].(string), Queue: m["queue_name"].(string), To: to})
		}
		return all, err
	}
	rests := func(w testkit.Waiting) bool { return w.Queue == "retry" || w.Queue == "hold" }
	clear(l.keep)
	clear(l.goes)
	// What a stranger writes into the header of his own is taken out.
	for label, score := range map[string]string{"exact": "10.0", "below": "9.9", "none": "0.0", "claims": "1.0", "held": "50.0"} {
		c := cause{label: label, header: "X-Spam-Status: Yes, score=99 required=5.0\r\n"}.letter()
		c.Data = bytes.Replace(c.Data, []byte("Subject: "+label), []byte("Subject: score "+score), 1)
		sendWant(t, g.Addr, c, testkit.Dot, 250)
		l.keep[label] = true
	}
	for i := range moreSpam {
		c := cause{label: fmt.Sprintf("spam-%d", i)}.letter()
		c.Data = bytes.Replace(c.Data, []byte("Subject: spam-"), fmt.Appendf(nil, "Subject: score %d.%d spam-", 10+i/5, 1+i%5), 1)
		c.Data = bytes.Replace(c.Data, fmt.Appendf(nil, " spam-%d\r\nX", i), []byte("\r\nX"), 1)
		c.Data = bytes.Replace(c.Data, fmt.Appendf(nil, " spam-%d\r\n\r\n", i), []byte("\r\n\r\n"), 1)
		sendWant(t, g.Addr, c, testkit.Dot, 250)
		l.goes[fmt.Sprintf("spam-%d", i)] = true
	}
	l.filled(rests)
	var spam string
	for _, w := range must(l.waiting())(t) {
		switch w.To {
		case "held@victim.test":
			command(t, g, 0, "queue", "hold", w.ID)
		case "spam-1@victim.test":
			spam = w.ID
		}
	}
	// A copy of a real one from outside, to somebody who is there later.
	real := command(t, g, 0, "queue", "cat", spam).Stdout
	sendWant(t, g.Addr, testkit.Letter{To: []string{"forged@example.com"}, Data: []byte(real)}, testkit.Dot, 250)
	sendWant(t, g.Addr, testkit.Letter{From: "s@sender.test", To: []string{"ordinary@example.com"}, Data: []byte("Subject: score 99.0\r\n\r\nx\r\n")}, testkit.Dot, 250)
	l.keep["forged"], l.keep["ordinary"] = true, true
	l.filled(rests)

	l.lookOnly()
	l.locked(g.Spool)
	l.oneStops()
	l.killed(3, "5", 80*time.Millisecond, func() {})
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	l.want0()
	l.killed(5, "3", 250*time.Millisecond, func() {}) // the spool at rest
	l.finished()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	l.want(true)
}

// want0 wants all that must stay.
func (l *labelled) want0() {
	l.t.Helper()
	got := l.labels()
	for label := range l.keep {
		if !got[label] {
			l.t.Errorf("%s is gone", label)
		}
	}
}

// What packaging/ starts is what the binary understands, and systemd too.
func TestCleanUnits(t *testing.T) {
	binary := must(binaries.plain())(t)
	root := must(testkit.ModuleRoot())(t)
	dir, units, commands := t.TempDir(), []string(nil), 0
	for _, path := range must(filepath.Glob(filepath.Join(root, "packaging", "gatepost*")))(t) {
		text := string(must(os.ReadFile(path))(t))
		for line := range strings.Lines(text) {
			_, args, ok := strings.Cut(line, "gatepost queue clean ")
			if !ok {
				continue
			}
			commands++
			out, err := exec.Command(binary, append([]string{"queue", "clean"}, append(strings.Fields(args), "--help")...)...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", filepath.Base(path), line, err, out)
			}
		}
		if filepath.Ext(path) == ".cron" {
			continue
		}
		unit := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, "/usr/bin/gatepost", binary)), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	if commands < 5 || len(units) < 2 {
		t.Errorf("%d commands, %d units", commands, len(units))
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd here to check the units")
		return
	}
	if out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}
