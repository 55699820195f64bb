package digest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// held is a quarantine in memory.
type held struct {
	items   []Item
	did     []string
	fail    bool
	authors int // that were asked for
}

func (h *held) Held() iter.Seq[Item] { return slices.Values(h.items) }

func (h *held) Find(id string) (Item, bool) {
	i := slices.IndexFunc(h.items, func(it Item) bool { return it.ID == id })
	if i < 0 {
		return Item{}, false
	}
	return h.items[i], true
}

func (h *held) Author(string) string { h.authors++; return "J\u00fcrgen\u202e <script>" }

func (h *held) Do(_ context.Context, a Action, id string, rcpt mail.Address, _ string) error {
	if h.fail {
		return fmt.Errorf("no space left")
	}
	h.did = append(h.did, string(a)+" "+id+" "+rcpt.String())
	if a == Release || a == Delete {
		h.items = slices.DeleteFunc(h.items, func(it Item) bool { return it.ID == id })
	}
	return nil
}

// rig is digests with a clock that tests set.
type rig struct {
	t     *testing.T
	now   time.Time
	held  *held
	store *state.Memory
	cfg   Config
	posts []string // recipients
	mails []Mail
	*Digests
}

func newRig(t *testing.T, now time.Time, change func(*Config)) *rig {
	r := &rig{t: t, now: now, held: &held{}}
	r.store = state.NewMemory(func() time.Time { return r.now })
	r.cfg = DefaultConfig()
	r.cfg.Every, r.cfg.URL, r.cfg.Hostname = Daily, "https://mail.example.com/", "mx1.example.com"
	r.cfg.Key = filepath.Join(t.TempDir(), "digest.key")
	if change != nil {
		change(&r.cfg)
	}
	r.restart()
	return r
}

func (r *rig) restart() {
	d, err := New(r.cfg, Deps{
		Quarantine: r.held, Store: r.store, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now },
		Ours: func(a mail.Address) bool { return a.Domain == "example.com" },
		Post: func(_ context.Context, to mail.Address, m Mail) error {
			r.posts, r.mails = append(r.posts, to.String()), append(r.mails, m)
			return nil
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Digests = d
}

func (r *rig) hold(kind mail.HeldKind, age time.Duration, rcpts ...string) string {
	it := Item{ID: mail.NewID(r.now), Kind: kind, Received: r.now.Add(-age), Subject: "Hello"}
	for _, s := range rcpts {
		a, err := mail.ParseAddress(s, true)
		if err != nil {
			r.t.Fatal(err)
		}
		it.Rcpts = append(it.Rcpts, a)
	}
	r.held.items = append(r.held.items, it)
	return it.ID
}

func (r *rig) send(want ...string) {
	r.t.Helper()
	r.posts = nil
	if n, err := r.Send(r.t.Context(), false); err != nil || n != len(want) || !slices.Equal(r.posts, want) {
		r.t.Errorf("at %s: sent %d to %v, %v; want %v", r.now, n, r.posts, err, want)
	}
}

func berlin(t *testing.T) *time.Location {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	return zone
}

// Once a day, whatever happens to the clock and to the process.
func TestOnceADay(t *testing.T) {
	zone := berlin(t)
	r := newRig(t, time.Date(2026, 3, 27, 12, 0, 0, 0, zone), func(c *Config) { c.At = "02:30" })
	step := func(want ...string) {
		t.Helper()
		r.send(want...)
		r.send() // again at once
		r.restart()
		r.send() // and after a restart
	}
	r.hold(mail.HeldSpam, time.Hour, "u@example.com")
	step() // the first time: not in the middle of the day
	r.now = time.Date(2026, 3, 28, 2, 29, 59, 0, zone)
	step()
	r.now = time.Date(2026, 3, 28, 2, 30, 0, 0, zone)
	step("u@example.com")
	r.now = time.Date(2026, 3, 28, 23, 59, 59, 0, zone)
	r.hold(mail.HeldSpam, 0, "u@example.com")
	step()
	r.now = time.Date(2026, 3, 29, 0, 0, 1, 0, zone) // across midnight
	step()
	r.now = time.Date(2026, 3, 29, 4, 0, 0, 0, zone) // 02:30 was left out by the clock
	step("u@example.com")
	r.now = time.Date(2026, 3, 29, 20, 0, 0, 0, zone)
	r.hold(mail.HeldSpam, 0, "u@example.com")
	step()
	r.now = time.Date(2026, 3, 29, 3, 10, 0, 0, zone) // set back by hand
	step()
	r.now = time.Date(2026, 3, 30, 2, 31, 0, 0, zone)
	step("u@example.com")

	r.now = time.Date(2026, 10, 25, 0, 0, 0, 0, zone) // 02:30 comes twice this night
	r.hold(mail.HeldSpam, 0, "u@example.com")
	sent := 0
	for range 8 * 12 {
		r.now = r.now.Add(5 * time.Minute)
		r.hold(mail.HeldSpam, 0, "u@example.com")
		n, err := r.Send(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	if sent != 1 && sent != 2 { // what the months before left is due at the first look
		t.Errorf("%d digests in the night with two half past two", sent)
	}
	r.now = time.Date(2026, 10, 25, 23, 0, 0, 0, zone)
	step()
}

// Who is told of what.
func TestWhoIsTold(t *testing.T) {
	monday := time.Date(2026, 11, 16, 8, 0, 0, 0, time.Local)
	r := newRig(t, monday, func(c *Config) {
		c.For = map[string]Every{"boss@example.com": Off, "weekly@example.com": Weekly}
		c.MinItems = 2
	})
	r.send()
	for range 2 {
		r.hold(mail.HeldSpam, 0, "two@example.com", "boss@example.com", "stranger@elsewhere.example", "weekly@example.com")
	}
	r.hold(mail.HeldSpam, 0, "one@example.com")
	r.hold(mail.HeldVirus, 0, "one@example.com")
	r.now = monday.Add(24 * time.Hour) // Tuesday
	r.send("two@example.com")
	r.now = monday.Add(2 * 24 * time.Hour)
	r.send() // nothing is new
	r.hold(mail.HeldSpam, 0, "late@example.com")
	r.hold(mail.HeldSpam, 0, "late@example.com")
	r.now = monday.Add(5 * 24 * time.Hour) // it was off for two days
	r.send("late@example.com")
	r.now = monday.Add(7 * 24 * time.Hour)
	r.send("weekly@example.com")
}

// Ten thousand messages make a mail that a mailbox takes.
func TestManyItems(t *testing.T) {
	r := newRig(t, time.Date(2026, 11, 16, 6, 0, 0, 0, time.Local), nil)
	r.send()
	for range 10_000 {
		r.hold(mail.HeldSpam, 0, "u@example.com")
	}
	r.now = r.now.Add(2 * time.Hour)
	r.send("u@example.com")
	m := r.mails[0]
	if n := len(m.Body); n > 300_000 || !bytes.Contains(m.Body, []byte("9900 more")) || r.held.authors != 100 {
		t.Errorf("%d bytes, %d headers read", n, r.held.authors)
	}
	for line := range bytes.Lines(m.Body) {
		if len(line) > 78 || !bytes.HasSuffix(line, []byte("\r\n")) {
			t.Fatalf("line %q", line)
		}
	}
	if bytes.Contains(m.Body, []byte("<script>")) && !bytes.Contains(m.Body, []byte("&lt;script&gt;")) || bytes.Contains(m.Body, []byte("=E2=80=AE")) {
		t.Error("the author's name got through as it is")
	}
}

func (r *rig) links() map[string]string {
	all := map[string]string{}
	for _, a := range []Action{Release, Delete, Allow, Block, List} {
		id := ""
		if a != List {
			id = r.held.items[0].ID
		}
		u, err := r.ticketURL(ticket{a, id, r.held.items[0].Rcpts[0], r.now.Add(time.Hour)})
		if err != nil {
			r.t.Fatal(err)
		}
		all[string(a)] = strings.TrimPrefix(u, "https://mail.example.com")
	}
	return all
}

func (r *rig) visit(method, path string, code int) string {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	if w.Code != code {
		r.t.Errorf("%s: %d, want %d\n%s", method, w.Code, code, w.Body)
	}
	return w.Body.String()
}

func TestLinks(t *testing.T) {
	r := newRig(t, time.Now(), nil)
	id := r.hold(mail.HeldSpam, 0, "u@example.com", "v@example.com")
	r.hold(mail.HeldSpam, 0, "v@example.com")
	links := r.links()
	for a, path := range links {
		for _, method := range []string{"GET", "HEAD"} {
			r.visit(method, path, http.StatusOK)
		}
		for i := len("/held/"); i < len(path); i += 7 { // any letter changed
			c := byte('A')
			if path[i] == 'A' {
				c = 'B'
			}
			r.visit("POST", path[:i]+string(c)+path[i+1:], http.StatusNotFound)
		}
		_ = a
	}
	r.visit("GET", "/held/preview-of-release", http.StatusNotFound)
	r.visit("POST", links["list"], http.StatusMethodNotAllowed)
	r.visit("GET", "/held/style.css", http.StatusOK)
	if len(r.held.did) > 0 {
		t.Fatalf("did %v", r.held.did)
	}
	if page := r.visit("GET", links["list"], http.StatusOK); strings.Count(page, "<section>") != 1 || strings.Contains(page, "<script>") {
		t.Errorf("all of one recipient:\n%s", page)
	}
	r.visit("POST", links["allow"], http.StatusOK)
	r.visit("POST", links["allow"], http.StatusConflict)
	r.held.fail = true
	r.visit("POST", links["release"], http.StatusServiceUnavailable)
	r.held.fail = false
	r.visit("POST", links["release"], http.StatusOK) // a failure does not use it up
	r.restart()
	r.visit("POST", links["release"], http.StatusConflict)
	r.visit("POST", links["delete"], http.StatusGone)
	if want := []string{"allow " + id + " u@example.com", "release " + id + " u@example.com"}; !slices.Equal(r.held.did, want) {
		t.Errorf("did %v, want %v", r.held.did, want)
	}
	r.now = r.now.Add(2 * time.Hour)
	r.visit("GET", links["block"], http.StatusGone)
	r.visit("POST", links["block"], http.StatusGone)
}

// A link that was signed for somebody whom the message is not held for does
// nothing, and none releases what needs an approval.
func TestLinksOfOthers(t *testing.T) {
	r := newRig(t, time.Now(), nil)
	r.hold(mail.HeldSpam, 0, "u@example.com")
	r.hold(mail.HeldAttachment, 0, "u@example.com")
	u := r.held.items[0].Rcpts[0]
	other := mail.Address{Local: "other", Domain: "example.com"}
	for _, tt := range []struct {
		name string
		t    ticket
	}{
		{"W5: of somebody else", ticket{Release, r.held.items[0].ID, other, r.now.Add(time.Hour)}},
		{"a banned file", ticket{Release, r.held.items[1].ID, u, r.now.Add(time.Hour)}},
		{"no such message", ticket{Release, mail.NewID(r.now), u, r.now.Add(time.Hour)}},
		{"no such action", ticket{"explode", r.held.items[0].ID, u, r.now.Add(time.Hour)}},
	} {
		signed, err := r.keys.sign(tt.t, r.now)
		if err != nil {
			t.Fatal(err)
		}
		r.visit("GET", "/held/"+signed, http.StatusGone)
		r.visit("POST", "/held/"+signed, http.StatusGone)
	}
	if len(r.held.did) > 0 {
		t.Errorf("did %v", r.held.did)
	}
}

// Keys are renewed; links of the old ones work until they end. Who removes the file
// makes all void. A file that others may read is not used.
func TestKeys(t *testing.T) {
	r := newRig(t, time.Now(), nil)
	r.hold(mail.HeldSpam, 0, "u@example.com")
	in := ticket{Block, r.held.items[0].ID, r.held.items[0].Rcpts[0], r.now.Add(50 * 24 * time.Hour)}
	first, err := r.keys.sign(in, r.now)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(r.cfg.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	r.now = r.now.Add(31 * 24 * time.Hour)
	second, err := r.keys.sign(in, r.now)
	if err != nil || first == second {
		t.Fatalf("not renewed: %v", err)
	}
	text, err := os.ReadFile(r.cfg.Key)
	if lines := regexp.MustCompile(`(?m)^[0-9a-f]{8} \d+ [0-9a-f]{64}$`).FindAll(text, -1); err != nil || len(lines) != 2 {
		t.Errorf("%d keys, %v", len(lines), err)
	}
	r.restart()
	for _, s := range []string{first, second} {
		if got, err := r.keys.open(s, r.now); err != nil || got.id != in.id || got.rcpt != in.rcpt || got.action != Block {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := os.Chmod(r.cfg.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if _, err := r.keys.sign(in, r.now); err == nil || !strings.Contains(err.Error(), "others may read") {
		t.Errorf("readable by others: %v", err)
	}
	if err := os.Remove(r.cfg.Key); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if _, err := r.keys.open(second, r.now); err == nil {
		t.Error("without its key it works")
	}
}

func FuzzTicket(f *testing.F) {
	k := &keys{path: filepath.Join(f.TempDir(), "key"), life: time.Hour}
	now := time.Unix(1_800_000_000, 0)
	good, err := k.sign(ticket{Release, "id", mail.Address{Local: "u", Domain: "example.com"}, now.Add(time.Hour)}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add(".")
	f.Add("YWJj.YWJj")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := k.open(s, now); err == nil && s != good {
			t.Errorf("%q is good for %+v", s, got)
		}
	})
}
