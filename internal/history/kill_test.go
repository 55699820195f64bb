package history

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const killedPath = "GATEPOST_TEST_HISTORY"

// TestWriter is the process that TestKill kills: it writes on and on, and says
// what it can find again.
func TestWriter(t *testing.T) {
	path := os.Getenv(killedPath)
	if path == "" {
		t.Skip("this is a part of TestKill")
	}
	cfg := DefaultConfig()
	cfg.Path, cfg.MaxAge = path, 100*365*24*time.Hour
	s := start(t, cfg, Options{})
	base := int(time.Now().UnixNano() % 1e9)
	for i := base; ; i += 20 {
		var last Record
		for j := range 20 {
			last = sampleRecord(t, i+j)
			last.Time = time.Now()
			s.Decision(last)
		}
		eventually(t, "it is written", func() bool { _, err := s.Life(context.Background(), last.ID); return err == nil })
		fmt.Println("kept", last.ID)
	}
}

// What was once found is found after kill -9, and the file is sound.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	cfg := config(t)
	var kept []string
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriter$", "-test.v")
		cmd.Env = append(os.Environ(), killedPath+"="+cfg.Path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < round%3+1 && lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "kept "); ok {
				kept = append(kept, id)
				n++
			}
		}
		time.Sleep(time.Duration(round) * 17 * time.Millisecond) // somewhere in the next batch
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	if len(kept) < 6 {
		t.Fatalf("%d records were kept", len(kept))
	}
	s, err := Open(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer s.end()
	var sound string
	if err := s.file.db.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
		t.Errorf("integrity: %s, %v", sound, err)
	}
	for _, id := range kept {
		if _, err := s.Life(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
}
