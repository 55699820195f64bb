package mailq

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A bounce as sendmail 8.17 wrote it.
const ownQF = "V8\nT1795272200\nK1795272200\nN1\nP31125\nI254/0/10003204\nMDeferred: 450 4.1.1 later\nFrs\n$_localhost\n$r\n$slocalhost\n${daemon_flags}\n" +
	"SMAILER-DAEMON\nMDeferred: 450 4.1.1 later\nrRFC822; s@victim.test\nRPF:<s@victim.test>\nH?P?Return-Path: <\x81g>\n" +
	"H??Received: from localhost (localhost)\n\tby sm.test (8.17.1.9/8.17.1.9) id 6ALEhKF4028690;\n\tSat, 21 Nov 2026 14:43:20 GMT\n" +
	"H?F?From: Mail Delivery Subsystem <MAILER-DAEMON>\n.\n"

func TestReadQF(t *testing.T) {
	change := func(old, with string) string {
		if !strings.Contains(ownQF, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(ownQF, old, with, 1)
	}
	for _, tt := range []struct {
		name, qf string
		bad      bool
		null     bool
		foreign  string
		obstacle string
	}{
		{name: "own", qf: ownQF, null: true},
		{name: "own, older form of the null sender", qf: change("SMAILER-DAEMON", "S<>"), null: true},
		{name: "over SMTP", qf: change("$r\n", "$rESMTP\n"), null: true, foreign: "elsewhere"},
		{name: "client with an address", qf: change("$_localhost", "$_evil.test [192.0.2.1]"), null: true, foreign: "elsewhere"},
		{name: "local user", qf: change("$_localhost", "$_alice@localhost"), null: true, foreign: "elsewhere"},
		{name: "not a response", qf: change("Frs", "Fbs"), null: true, foreign: "did not make it"},
		{name: "no flags", qf: change("Frs\n", ""), null: true, foreign: "did not make it"},
		{name: "a sender", qf: change("SMAILER-DAEMON", "S<a@b.test>")},
		{name: "a sender called so", qf: change("SMAILER-DAEMON", "SMAILER-DAEMON@b.test")},
		{name: "quarantined", qf: change("Frs", "qspam\nFrs"), null: true, obstacle: "holds"},
		{name: "body elsewhere", qf: change("Frs", "d/other/df\nFrs"), null: true, obstacle: "another queue"},
		{name: "no end", qf: change("\n.\n", "\n"), bad: true},
		{name: "cut in a line", qf: ownQF[:40], bad: true},
		{name: "end without a line end", qf: strings.TrimSuffix(ownQF, "\n"), bad: true},
		{name: "something behind the end", qf: ownQF + "S<>\n", bad: true},
		{name: "unknown letter", qf: change("K1795", "k1795"), bad: true},
		{name: "empty line", qf: change("K1795", "\nK1795"), bad: true},
		{name: "no version", qf: change("V8\n", ""), bad: true},
		{name: "strange version", qf: change("V8\n", "Vx\n"), bad: true},
		{name: "no sender", qf: change("SMAILER-DAEMON\n", ""), bad: true},
		{name: "no time", qf: change("T1795272200\n", ""), bad: true},
		{name: "strange time", qf: change("T1795272200\n", "Tnow\n"), bad: true},
		{name: "empty", qf: "", bad: true},
		{name: "endless", qf: strings.Repeat("N1\n", maxQF/3+1) + ownQF, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := readQF(strings.NewReader(tt.qf))
			if (err != nil) != tt.bad {
				t.Fatalf("error %v", err)
			}
			if tt.bad {
				return
			}
			if c.null() != tt.null || !strings.Contains(c.foreign(), tt.foreign) || (tt.foreign == "") != (c.foreign() == "") && tt.null {
				t.Errorf("null %v, foreign %q", c.null(), c.foreign())
			}
			if !strings.Contains(c.obstacle(), tt.obstacle) || (tt.obstacle == "") != (c.obstacle() == "") {
				t.Errorf("obstacle %q", c.obstacle())
			}
			if want := []string{"s@victim.test"}; !slices.Equal(c.recipients, want) {
				t.Errorf("recipients %q", c.recipients)
			}
			if !strings.Contains(c.header, "\nReceived: from localhost (localhost)\n\tby sm.test") || strings.Contains(c.header, "?") {
				t.Errorf("header %q", c.header)
			}
		})
	}
}

const ownEnvelope = "*** ENVELOPE RECORDS deferred/8/4jWvwg3yG7z1SKw0 ***\nmessage_size:            2234             251\n" +
	"create_time: Sat Nov 21 14:39:15 2026\nnamed_attribute: log_message_origin=local\nnamed_attribute: trace_flags=0\nsender: \n" +
	"named_attribute: dsn_orig_rcpt=rfc822;s@victim.test\noriginal_recipient: s@victim.test\nrecipient: s@victim.test\n" +
	"*** MESSAGE CONTENTS deferred/8/4jWvwg3yG7z1SKw0 ***\nReceived: by pf.test (Postfix)\n"

func TestReadEnvelope(t *testing.T) {
	const id = "4jWvwg3yG7z1SKw0"
	for _, tt := range []struct {
		name, old, with string
		err             error
		null            bool
		foreign         string
	}{
		{name: "own", null: true},
		{name: "a sender", old: "sender: \n", with: "sender: a@b.test\n"},
		{name: "two senders", old: "sender: \n", with: "sender: \nsender: \n"},
		{name: "a client", old: "trace_flags=0", with: "log_client_name=evil.test", null: true, foreign: "elsewhere"},
		{name: "a client as origin", old: "log_message_origin=local", with: "log_message_origin=evil.test[192.0.2.1]", null: true, foreign: "did not make it"},
		{name: "no origin", old: "named_attribute: log_message_origin=local\n", null: true, foreign: "did not make it"},
		{name: "a user", old: "sender: \n", with: "sender_fullname: alice\nsender: \n", null: true, foreign: "user of this host"},
		{name: "another queue", old: "RECORDS deferred/", with: "RECORDS active/", err: ErrChanged},
		{name: "another message", old: "z1SKw0 ***", with: "z1SKw1 ***", err: ErrChanged},
		{name: "cut off", old: "*** MESSAGE CONTENTS deferred/8/4jWvwg3yG7z1SKw0 ***\nReceived: by pf.test (Postfix)\n", err: ErrGone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(strings.Replace(ownEnvelope, tt.old, tt.with, 1)))
			e, err := readEnvelope(r, id)
			if !errors.Is(err, tt.err) || err != nil && tt.err == nil {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			if e.null != tt.null || (e.foreign == "") != (tt.foreign == "") || !strings.Contains(e.foreign, tt.foreign) {
				t.Errorf("null %v, foreign %q", e.null, e.foreign)
			}
			if line, _ := r.ReadString('\n'); !strings.HasPrefix(line, "Received:") {
				t.Errorf("content begins with %q", line)
			}
		})
	}
	if _, err := readEnvelope(bufio.NewReader(strings.NewReader(strings.Replace(ownEnvelope, "sender: \n", strings.Repeat("recipient: x@y.test\n", 20000), 1))), id); err == nil {
		t.Error("an endless envelope is read to its end")
	}
}

func TestReadCF(t *testing.T) {
	for _, tt := range []struct {
		name, cf string
		paths    []string
		host     string
		bad      bool
	}{
		{name: "plain", cf: "Djmx.test\nO QueueDirectory=/var/spool/mqueue\nO QueueLA=8\n", paths: []string{"/var/spool/mqueue"}, host: "mx.test"},
		{name: "groups", cf: "Dj$w.Foo.COM\nO QueueDirectory=/q/q*\nQslow, P=/q/slow, F=f\nQlocal, Path = local/l*, R=3\nQmain, F=f\n", paths: []string{"/q/q*", "/q/slow", "/q/local/l*"}},
		{name: "old option", cf: "OQ/var/spool/mqueue\n", paths: []string{"/var/spool/mqueue"}},
		{name: "in a comment", cf: "#O QueueDirectory=/x\n", bad: true},
		{name: "relative", cf: "O QueueDirectory=mqueue\n", bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "sendmail.cf")
			if err := os.WriteFile(name, []byte(tt.cf), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := NewSendmail(name)
			if (err != nil) != tt.bad {
				t.Fatalf("error %v", err)
			}
			if err == nil && (!slices.Equal(s.paths, tt.paths) || s.Host() != tt.host) {
				t.Errorf("%q, %q", s.paths, s.Host())
			}
		})
	}
}

// Only one cleaner at a time.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// A queue file that sendmail has replaced since it was opened is not deleted.
func TestReplacedQueueFile(t *testing.T) {
	dir := t.TempDir()
	d, err := newQueueDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "qf1")
	for _, n := range []string{name, filepath.Join(dir, "df1"), filepath.Join(dir, "tf1")} {
		if err := os.WriteFile(n, []byte(ownQF), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	qf, err := d.lock("1")
	if err != nil {
		t.Fatal(err)
	}
	defer qf.Close()
	if err := os.Rename(filepath.Join(dir, "tf1"), name); err != nil {
		t.Fatal(err)
	}
	if err := d.remove("1", qf); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "?f1")); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

func FuzzReadQF(f *testing.F) {
	f.Add([]byte(ownQF))
	f.Add([]byte("V1\nT1\nS<>\nR:a@b\n.\n"))
	f.Add([]byte("V8\nT1\nSx\nH??A: b\n c\n.\n\n"))
	f.Add([]byte("\n.\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readQF(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		if len(c.recipients) > 2 || !strings.Contains(string(b), ".") {
			t.Errorf("%+v", c)
		}
		_, _ = c.foreign(), c.obstacle()
	})
}

func FuzzReadEnvelope(f *testing.F) {
	f.Add([]byte(ownEnvelope))
	f.Add([]byte("*** ENVELOPE RECORDS deferred/x ***\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readEnvelope(bufio.NewReader(strings.NewReader(string(b))), "4jWvwg3yG7z1SKw0")
		if err == nil && e.foreign == "" && !strings.Contains(string(b), "log_message_origin=local") {
			t.Errorf("%+v", e)
		}
	})
}
