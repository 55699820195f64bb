package integration

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// TestLearnCommand teaches a real spamd what a message is, from the command
// line.
func TestLearnCommand(t *testing.T) {
	data := testkit.Dir(t)
	if err := os.Chmod(data, 0o777); err != nil { // spamd's children are nobody
		t.Fatal(err)
	}
	spamd := testkit.NewSpamd(testkit.Dir(t), "use_bayes 1", "bayes_path "+data+"/bayes", "bayes_file_mode 0777", "bayes_auto_learn 0")
	spamd.Args = []string{"--allow-tell"}
	testkit.Up(t, spamd)
	g := newGateway(t, binaries.plain, "127.0.0.1:9")
	g.UseSpamd("tcp:"+spamd.Addr, "tempfail")
	if err := g.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.Dir, "spam.eml")
	text := strings.ReplaceAll(string(testkit.Message("spam", "offer", "cheap watches, lottery winner, claim your prize")), "\r\n", "\n")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ lesson, want string }{
		{"--spam", "spamassassin learned it as spam"}, {"--spam", "spamassassin learned nothing new"},
		{"--ham", "spamassassin learned it as ham"}, {"--forget", "spamassassin forgot it"},
	} {
		if res := command(t, g, 0, "learn", step.lesson, file); !strings.Contains(res.Stdout, step.want) {
			t.Errorf("%s: %s%s, want %q", step.lesson, res.Stdout, res.Stderr, step.want)
		}
	}
	if err := spamd.Stop(); err != nil {
		t.Fatal(err)
	}
	command(t, g, 69, "learn", "--spam", file)
}

// TestOldSignatures: that freshclam is late is seen by status, in the metrics and
// in the log, and mail passes.
func TestOldSignatures(t *testing.T) {
	made := time.Now().Add(-9 * 24 * time.Hour).Format(time.ANSIC)
	clamd := (&scriptedDaemon{say: func(c net.Conn, d *scriptedDaemon) {
		head := make([]byte, len("zVERSION\x00"))
		if n, err := io.ReadFull(c, head); err == nil && string(head) == "zVERSION\x00" {
			_, _ = io.WriteString(c, "ClamAV 1.4.3/27431/"+made+"\x00")
		} else {
			clamdScript(replayed{c, io.MultiReader(strings.NewReader(string(head[:n])), c)}, d)
		}
	}}).start(t)
	sink := testkit.Up(t, testkit.NewSink())
	g := newGateway(t, binaries.plain, sink.Addr)
	g.UseClamd("tcp:"+clamd.addr, "tempfail")
	testkit.Up(t, g)
	testkit.Eventually(t, time.Minute, "status tells it", func() bool {
		return strings.Contains(command(t, g, 0, "status").Stdout, "LATE")
	})
	sendWant(t, g.Addr, letter(testkit.Message("old", "old", "x")), testkit.Dot, 250)
	waitMails(t, sink, 1)
	if _, body, err := g.Get("/metrics"); err != nil || !strings.Contains(body, `gatepost_clamav_signature_age_seconds{filter="clamav"} 777`) ||
		!strings.Contains(body, `gatepost_filter_info{filter="clamav",version="ClamAV 1.4.3/27431"} 1`) {
		t.Errorf("metrics: %v", err)
	}
	for _, want := range []string{"signatures are old", "outdated="} {
		if !strings.Contains(g.Log(), want) {
			t.Errorf("log without %q", want)
		}
	}
}

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	r io.Reader
}

func (r replayed) Read(p []byte) (int, error) { return r.r.Read(p) }
