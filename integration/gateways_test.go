package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// gates are three gateways with one store, and one next hop for all mail.
type gates struct {
	all  [3]*testkit.Gateway
	sink *testkit.Sink
}

// openGates starts them. Who comes from 127.5.0.0/16 is not greylisted.
func openGates(t *testing.T, binary func() (string, error), store string, change func(*testkit.Gateway)) *gates {
	t.Helper()
	s := &gates{sink: testkit.Up(t, testkit.NewSink())}
	for i := range s.all {
		g := newGateway(t, binary, s.sink.Addr)
		c := &g.Config
		c.Set("", "state", fmt.Sprintf("%q", store))
		c.Set(`route."."`, "to", fmt.Sprintf(`["smtp://%s"]`, s.sink.Addr))
		c.Set("filter.blocklist", "viruses", "3")
		c.Set("filter.greylist", "delay", `"1s"`)
		c.Set("filter.greylist", "networks", `["127.5.0.0/16"]`)
		if change != nil {
			change(g)
		}
		s.all[i] = g
	}
	var starting sync.WaitGroup
	for _, g := range s.all {
		starting.Go(func() {
			if err := g.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	for _, g := range s.all {
		testkit.Watch(t, g)
	}
	if t.Failed() {
		t.FailNow()
	}
	return s
}

// hears sends by way of one gateway, and wants an answer that begins so.
func (s *gates) hears(t *testing.T, gate int, l testkit.Letter, want string) {
	t.Helper()
	if r := testkit.Send(s.all[gate].Addr, l); !strings.HasPrefix(r.String(), want) {
		t.Errorf("%s to %v by way of %d: %s, want %s", l.Client, l.To, gate, r, want)
	}
}

// listed is one line of `state list --json`.
type listed struct {
	Key, Value string
	Expires    time.Time
}

// entries are those of a set, as one gateway lists them.
func (s *gates) entries(t *testing.T, gate int, set string) (list []listed) {
	t.Helper()
	said := command(t, s.all[gate], 0, "state", "list", set, "--json").Stdout
	for line := range strings.Lines(said) {
		var e listed
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		list = append(list, e)
	}
	return list
}

// same wants that each gateway lists these entries, and the same of them: each
// by its own clock.
func (s *gates) same(t *testing.T, set string, keys ...string) {
	t.Helper()
	first := s.entries(t, 0, set)
	for i := range s.all {
		list := s.entries(t, i, set)
		equal := slices.EqualFunc(list, first, func(a, b listed) bool {
			return a.Key == b.Key && a.Value == b.Value && a.Expires.Sub(b.Expires).Abs() < 2*time.Second
		})
		if !equal || !slices.EqualFunc(list, keys, func(e listed, key string) bool { return e.Key == key }) {
			t.Errorf("%s at %d: %v, want %v; at 0: %v", set, i, list, keys, first)
		}
	}
}

const (
	putOff   = testkit.Banner + ": 421 "
	kept     = testkit.Dot + ": 250"
	noRelay  = "RCPT: 550 "
	greyed   = "RCPT: 450 4.2.0 Greylisted"
	overRate = "MAIL: 450 4.7.1"
)

// What one of three gateways finds out about a client, all know.
func TestGatewaysShareWhatTheyKnow(t *testing.T) {
	t.Parallel()
	redis := testkit.Up(t, testkit.NewRedis(testkit.Dir(t)))
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	s := openGates(t, binaries.plain, "redis://"+redis.Addr, func(g *testkit.Gateway) {
		g.Config.Set("filter.rates.client", "messages", `"6/1h"`)
		g.Config.Set("filter.greylist", "delay", `"2s"`)
		g.UseClamd("unix:"+clamd.Socket, "tempfail")
	})
	t.Run("greylist", s.shareGreylist)
	t.Run("rates", s.shareRates)
	t.Run("blocklist", s.shareBlocklist)
	t.Run("windows", s.shareWindows)
}

func (s *gates) shareGreylist(t *testing.T) {
	l := epistle("127.6.0.1", "grey", "u@example.com")
	first := time.Now()
	s.hears(t, 0, l, greyed)
	s.hears(t, 1, l, greyed) // it is too early anywhere
	l.Client = "127.6.0.2"   // of the same network
	testkit.Eventually(t, 60*time.Second, "it passes at another gateway", func() bool {
		return time.Since(first) > 2*time.Second && testkit.Send(s.all[1].Addr, l).Accepted() // tries count against its rate
	})
	s.hears(t, 2, l, kept)
	l.To = []string{"v@example.com"}
	s.hears(t, 2, l, greyed)
}

// Six messages of the eighteen that come at once are within the limit.
func (s *gates) shareRates(t *testing.T) {
	var taken, refused atomic.Int64
	each(18, 18, func(i int) {
		r := testkit.Send(s.all[i%3].Addr, epistle("127.5.0.1", fmt.Sprint("rate", i), "u@example.com"))
		switch {
		case r.Accepted():
			taken.Add(1)
		case strings.HasPrefix(r.String(), overRate):
			refused.Add(1)
		default:
			t.Error(r)
		}
	})
	if taken.Load() != 6 || refused.Load() != 12 {
		t.Errorf("%d taken, %d put off", taken.Load(), refused.Load())
	}
	for i := range s.all {
		s.hears(t, i, epistle("127.5.0.1", "more", "u@example.com"), overRate)
		s.hears(t, i, epistle("127.5.0.2", fmt.Sprint("other", i), "u@example.com"), kept)
	}
}

// Two viruses at one gateway and one at another are three.
func (s *gates) shareBlocklist(t *testing.T) {
	virus := epistle("127.5.1.1", "virus", "u@example.com")
	virus.Data = testkit.Message("virus", "virus", testkit.EICAR())
	for _, i := range []int{0, 0, 1} {
		s.hears(t, i, virus, testkit.Dot+": 554 5.7.1 ")
	}
	clean := epistle("127.5.1.1", "clean", "u@example.com")
	for i, g := range s.all {
		testkit.Eventually(t, 60*time.Second, "the client is blocked", func() bool {
			return strings.Contains(command(t, g, 0, "state", "block", "list").Stdout, "127.5.1.1 ")
		})
		s.hears(t, i, clean, putOff)
		s.hears(t, i, epistle("127.5.1.2", fmt.Sprint("neighbour", i), "u@example.com"), kept)
	}
	s.same(t, "block", "127.5.1.1")
	command(t, s.all[2], 0, "state", "block", "drop", "127.5.1.1")
	s.same(t, "block")
	for i := range s.all {
		s.hears(t, i, clean, kept)
	}
}

func (s *gates) shareWindows(t *testing.T) {
	abroad := epistle("127.5.2.1", "window", "u@out.test")
	s.hears(t, 1, abroad, noRelay)
	command(t, s.all[0], 0, "state", "window", "add", "127.5.2.1")
	s.same(t, "window", "127.5.2.1")
	s.hears(t, 1, abroad, kept)
	s.hears(t, 2, abroad, kept)
	abroad.Client = "127.5.2.2"
	s.hears(t, 1, abroad, noRelay)

	abroad.Client = "127.5.2.1"
	command(t, s.all[2], 0, "state", "window", "add", "127.5.2.1", "--for", "1s")
	testkit.Eventually(t, 60*time.Second, "the window ends", func() bool {
		return len(s.entries(t, 0, "window")) == 0
	})
	for i := range s.all {
		s.hears(t, i, abroad, noRelay)
	}
}

// stream is mail that goes through all gateways until it is ended.
type stream struct {
	mu   sync.Mutex
	kept map[string]int // by id: how often a gateway said 250
	of   [3]atomic.Int64
	end  func()
}

// load begins a stream, of two clients at each gateway that try again what
// greylisting puts off. Anything but that is an error.
func (s *gates) load(t *testing.T) *stream {
	f := &stream{kept: make(map[string]int)}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 2 * len(s.all) {
		clients.Go(func() {
			pace := time.NewTicker(25 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ; {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				id := fmt.Sprintf("flow%d-%d", i, n)
				l := epistle(fmt.Sprintf("127.7.%d.1", i), id, "u@example.com")
				r := testkit.Send(s.all[i%3].Addr, l)
				if r.Accepted() {
					f.took(i%3, id)
					n++
				} else if !strings.HasPrefix(r.String(), greyed) {
					t.Errorf("%s at %d: %s", l.Client, i%3, r)
				}
			}
		})
	}
	f.end = sync.OnceFunc(func() { close(stop); clients.Wait() })
	t.Cleanup(f.end)
	return f
}

func (f *stream) took(gate int, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept[id]++
	f.of[gate].Add(1)
}

// goesOn waits until each gateway has taken n more messages.
func (f *stream) goesOn(t *testing.T, n int64) {
	t.Helper()
	for i := range f.of {
		want := f.of[i].Load() + n
		testkit.Eventually(t, 60*time.Second, fmt.Sprintf("%d messages at %d", n, i), func() bool { return f.of[i].Load() >= want })
	}
}

// arrived wants each message of the stream at the next hop, once.
func (f *stream) arrived(t *testing.T, sink *testkit.Sink) {
	t.Helper()
	f.end()
	at := func() map[string]int {
		found := make(map[string]int)
		for _, m := range sink.Mails() {
			if id := field(string(m.Data), "Message-ID"); strings.HasPrefix(id, "<flow") {
				found[strings.Trim(strings.SplitN(id, "@", 2)[0], "<>")]++
			}
		}
		return found
	}
	testkit.Eventually(t, 60*time.Second, "all messages at the next hop", func() bool { return len(at()) >= len(f.kept) })
	if got := at(); !maps.Equal(got, f.kept) {
		t.Errorf("at the next hop: %v\nanswered 250: %v", got, f.kept)
	}
}

// left waits until each gateway has noticed that the store is away, and returned
// until it has found it again.
func (s *gates) left(t *testing.T) {
	t.Helper()
	for i, g := range s.all {
		testkit.Eventually(t, 60*time.Second, fmt.Sprint(i, " says that the store is away"), func() bool { return strings.Contains(g.Log(), isAway) })
	}
}

func (s *gates) returned(t *testing.T) {
	t.Helper()
	for i, g := range s.all {
		testkit.Eventually(t, 60*time.Second, fmt.Sprint(i, " says that the store is back"), func() bool {
			log := g.Log()
			return strings.Count(log, isBack) == strings.Count(log, isAway)
		})
	}
}

const (
	isAway = "state: the store is away"
	isBack = "state: the store is back"
)

// outage takes the store away in a stream of mail, lets it come back, and wants
// that nothing was lost and that all gateways know the same again. While it is
// away, alone can look at them.
func (s *gates) outage(t *testing.T, crash func(), alone func(), again func()) {
	spammer, pardoned, fresh := "127.5.9.1", "127.5.9.2", "127.5.9.3"
	reader, late, stranger := "127.5.9.4", "127.5.9.5", "127.5.9.6"
	to := func(client, rcpt string) testkit.Letter { return epistle(client, "to-"+client, rcpt) }
	all := func(client, rcpt, want string) {
		t.Helper()
		for i := range s.all {
			s.hears(t, i, to(client, rcpt), want)
		}
	}
	known := func() {
		t.Helper()
		all(spammer, "u@example.com", putOff)
		all(reader, "u@out.test", kept)
		all(stranger, "u@out.test", noRelay)
	}
	command(t, s.all[0], 0, "state", "block", "add", spammer)
	command(t, s.all[1], 0, "state", "block", "add", pardoned)
	command(t, s.all[2], 0, "state", "window", "add", reader)
	known()
	all(pardoned, "u@example.com", putOff)
	f := s.load(t)
	f.goesOn(t, 10)

	crash()
	s.left(t)
	known()
	command(t, s.all[0], 0, "state", "block", "drop", pardoned)
	command(t, s.all[1], 0, "state", "block", "add", fresh, "--reason", "by hand")
	command(t, s.all[2], 0, "state", "window", "add", late)
	s.hears(t, 0, to(pardoned, "u@example.com"), kept)
	s.hears(t, 1, to(fresh, "u@example.com"), putOff)
	s.hears(t, 2, to(late, "u@out.test"), kept)
	alone()
	f.goesOn(t, 20)
	for i, g := range s.all {
		if _, metrics, err := g.Get("/metrics"); err != nil || !strings.Contains(metrics, `gatepost_store_errors_total{op="get",store="redis"} `) {
			t.Errorf("%d: %v\n%s", i, err, grep(metrics, "store"))
		}
	}

	again()
	s.returned(t)
	f.goesOn(t, 10)
	s.same(t, "block", spammer, fresh)
	s.same(t, "window", reader, late)
	known()
	all(pardoned, "u@example.com", kept)
	all(fresh, "u@example.com", putOff)
	all(late, "u@out.test", kept)
	f.arrived(t, s.sink)
	t.Logf("%d messages taken and delivered", len(f.kept))
}

// busy makes a gateway ask the store more often than it refuses.
func busy(g *testkit.Gateway) {
	g.Config.Set("filter.rates.client", "connections", `"100000/1m"`)
	g.Config.Set("filter.rates.client", "concurrent", "100")
	g.Config.Set("filter.rates.recipient", "messages", `"100000/1m"`)
}

// The server that three gateways share crashes and is started again.
func TestGatewaysWithoutRedis(t *testing.T) {
	t.Parallel()
	redis := testkit.Up(t, testkit.NewRedis(testkit.Dir(t)))
	s := openGates(t, binaries.race, "redis://"+redis.Addr, busy)
	s.outage(t, redis.Kill, func() {
		for i, g := range s.all {
			// Who can't be remembered is not put off.
			s.hears(t, i, epistle(fmt.Sprintf("127.8.%d.1", i), "new", "u@example.com"), kept)
			if said := command(t, g, 0, "status").Stdout; !strings.Contains(said, "is away, this gateway decides alone") {
				t.Errorf("%d says nothing:\n%s", i, said)
			}
		}
	}, func() {
		if err := redis.Start(); err != nil {
			t.Fatal(err)
		}
	})
	for i := range s.all {
		s.hears(t, i, epistle(fmt.Sprintf("127.8.%d.1", i+3), "newer", "u@example.com"), greyed)
	}
}

// The one of two servers that is written to crashes, and Sentinels make the other
// one take over.
func TestGatewaysFailOver(t *testing.T) {
	t.Parallel()
	first := testkit.Up(t, testkit.NewRedis(testkit.Dir(t)))
	host := "127.0.0.1 " + testkit.Port(first.Addr)
	second := testkit.Up(t, testkit.NewRedis(testkit.Dir(t), "replicaof "+host))
	watch := []string{"sentinel monitor main " + host + " 2", "sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 1000"}
	one := testkit.Up(t, testkit.NewSentinel(testkit.Dir(t), watch...))
	two := testkit.Up(t, testkit.NewSentinel(testkit.Dir(t), watch...))
	s := openGates(t, binaries.plain, fmt.Sprintf("redis-sentinel://%s,%s/main/0", one.Addr, two.Addr), busy)
	for _, r := range []*testkit.Redis{one, two} {
		testkit.Eventually(t, 60*time.Second, "the Sentinels know all", func() bool {
			said, err := r.Ask("SENTINEL master main")
			return err == nil && strings.Contains(said, "num-slaves\r\n$1\r\n1") && strings.Contains(said, "num-other-sentinels\r\n$1\r\n1")
		})
	}
	s.outage(t, first.Kill, func() {}, func() {
		testkit.Eventually(t, 60*time.Second, "the second one takes over", func() bool {
			said, err := one.Ask("SENTINEL get-master-addr-by-name main")
			return err == nil && strings.Contains(said, testkit.Port(second.Addr))
		})
	})
	if said, err := second.Ask("ROLE"); err != nil || !strings.Contains(said, "master") {
		t.Errorf("it is none to write to: %q %v", said, err)
	}
	// Nobody minds that the first one comes back.
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	command(t, s.all[0], 0, "state", "block", "add", "127.5.9.7")
	s.same(t, "block", "127.5.9.1", "127.5.9.3", "127.5.9.7")
}
