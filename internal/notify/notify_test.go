package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

type posted struct{ to, subject, body string }

// outbox is the mails that were posted.
type outbox struct {
	mu   sync.Mutex
	list []posted
}

func (o *outbox) all() []posted {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

// started is a notifier that runs until the test ends.
func started(t *testing.T, cfg Config, box *outbox) *Notifier {
	t.Helper()
	cfg.Hostname = "mx1.example.com"
	n, err := New(cfg, Deps{
		Post: func(_ context.Context, to mail.Address, subject, body string) error {
			box.mu.Lock()
			defer box.mu.Unlock()
			box.list = append(box.list, posted{to.String(), subject, body})
			return nil
		},
		Ours: func(a mail.Address) bool { return a.Domain == "example.com" },
		Log:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

func virus() Event {
	return Event{
		Kind: Virus, About: "EICAR\r\nBcc: x@y.example", Text: "A virus.", ID: "0twv", Sender: "<forged@elsewhere.example>", Subject: "in\u202evoice\r\n.",
		Action: "quarantine", Rcpts: []mail.Address{{Local: "u", Domain: "example.com"}, {Local: "x", Domain: "elsewhere.example"}},
	}
}

// The administrator and our own recipients hear of it; the sender and others do
// not.
func TestWhoHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box outbox
		cfg := DefaultConfig()
		cfg.Admin, cfg.Recipients = []string{"admin@example.org"}, []Kind{Virus}
		n := started(t, cfg, &box)
		n.Tell(virus())
		n.Tell(Event{Kind: BannedFile, Rcpts: virus().Rcpts})
		synctest.Wait()
		var to []string
		for _, p := range box.all() {
			to = append(to, p.to)
			if strings.ContainsAny(p.subject, "\r\n\u202e") || strings.Contains(p.body, "\u202e") || strings.Contains(p.body, "\r\n.\r\n") {
				t.Errorf("as it came: %q %q", p.subject, p.body)
			}
		}
		if want := []string{"admin@example.org", "u@example.com", "admin@example.org"}; !slices.Equal(to, want) {
			t.Errorf("told %v, want %v", to, want)
		}
	})
}

// Five are told by themselves; the others in one mail, at the end of the hour.
func TestNotTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box outbox
		cfg := DefaultConfig()
		cfg.Admin = []string{"admin@example.org"}
		n := started(t, cfg, &box)
		for range 47 {
			n.Tell(virus())
		}
		synctest.Wait()
		if len(box.all()) != 5 {
			t.Fatalf("%d mails at once", len(box.all()))
		}
		time.Sleep(62 * time.Minute)
		synctest.Wait()
		posts := box.all()
		if len(posts) != 6 || !strings.Contains(posts[5].subject, "and 41 more in the last hour") {
			t.Fatalf("%d mails, the last %q", len(posts), posts[len(posts)-1].subject)
		}
		time.Sleep(3 * time.Hour)
		n.Tell(virus())
		synctest.Wait()
		if len(box.all()) != 7 {
			t.Errorf("%d mails", len(box.all()))
		}
	})
}

// What is wrong is told when it begins, and once.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box outbox
		cfg := DefaultConfig()
		cfg.Admin = []string{"admin@example.org"}
		n := started(t, cfg, &box)
		down, up := Event{Kind: FilterDown, About: "clamav"}, Event{Kind: FilterUp, About: "clamav"}
		for _, wrong := range []bool{false, true, true, true, false, false} {
			n.Set(wrong, down, &up)
		}
		for _, about := range []string{"2h", "3h"} {
			n.Set(true, Event{Kind: QueueAge, About: about}, nil)
		}
		synctest.Wait()
		var subjects []string
		for _, p := range box.all() {
			subjects = append(subjects, p.subject)
		}
		if want := []string{"[mx1.example.com] Filter down: clamav", "[mx1.example.com] Filter works again: clamav", "[mx1.example.com] Mail waits for long: 2h"}; !slices.Equal(subjects, want) {
			t.Errorf("%q, want %q", subjects, want)
		}
	})
}

// Nobody waits, whatever comes; what there was no room for is counted.
func TestTooMany(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Admin = []string{"admin@example.org"}
	n, err := New(cfg, Deps{Log: slog.New(slog.DiscardHandler)}) // nobody reads
	if err != nil {
		t.Fatal(err)
	}
	for range waiting + 7 {
		n.Tell(virus())
	}
	if n.lost.Load() != 7 {
		t.Errorf("%d dropped", n.lost.Load())
	}
}

// A webhook is signed, tried again where that may help, and never redirected.
func TestWebhook(t *testing.T) {
	secret := []byte("0123456789abcdef")
	tests := []struct {
		name   string
		codes  []int // of the attempts
		tries  int32
		failed bool
	}{
		{"taken", []int{204}, 1, false},
		{"taken later", []int{500, 429, 200}, 3, false},
		{"never taken", []int{500, 500, 500, 500}, 3, true},
		{"refused", []int{400, 200}, 1, true},
		{"sent elsewhere", []int{302, 200}, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tries atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				h := hmac.New(sha256.New, secret)
				fmt.Fprintf(h, "%s.%s", r.Header.Get("X-Gatepost-Timestamp"), body)
				if got, want := r.Header.Get("X-Gatepost-Signature"), "sha256="+hex.EncodeToString(h.Sum(nil)); got != want {
					t.Errorf("signature %q, want %q", got, want)
				}
				var c map[string]any
				if err := json.Unmarshal(body, &c); err != nil || c["event"] != "virus" || c["host"] != "mx1.example.com" || c["and_more"] != 3.0 || r.Method != http.MethodPost {
					t.Errorf("%s %s, %v", r.Method, body, err)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.codes[tries.Add(1)-1])
			}))
			defer server.Close()
			cfg := DefaultConfig()
			cfg.Webhook, cfg.Secret, cfg.Hostname = server.URL, secret, "mx1.example.com"
			hook := newWebhook()
			hook.waits = []time.Duration{time.Millisecond, time.Millisecond}
			err := hook.post(t.Context(), &cfg, virus(), 3)
			if (err != nil) != tt.failed || tries.Load() != tt.tries {
				t.Errorf("%v after %d attempts, want %d", err, tries.Load(), tt.tries)
			}
		})
	}
}
