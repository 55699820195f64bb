package integration

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// Mail as people send it arrives, whatever its style, byte for byte below our
// fields: with a virus scanner, lists of attachments, and a look at its authors.
// Of SpamAssassin's samples too; what is spam is not judged here.
func TestOrdinaryMailArrives(t *testing.T) {
	dns, err := testkit.NewDNS("example.net. 60 IN A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Up(t, dns)
	d := newTwoDoors(t, binaries.race, func(g *testkit.Gateway) {
		g.Config.Set("dns", "servers", fmt.Sprintf("[%q]", dns.Addr))
		g.Config.Set("filter.auth", "check_ours", "true")
		g.Config.Set("filter.attachments", "deny", `[{name="programs", standard=true}]`)
		g.Config.Set("policy", "ambiguous", `"quarantine"`)
		g.Config.Set("policy", "unscanned", `"quarantine"`)
	})
	all := testkit.OrdinaryMail()
	names := slices.Sorted(maps.Keys(all))
	if len(names) < 150 {
		t.Fatalf("only %d messages", len(names))
	}
	for door, addr := range d.doors {
		t.Run(door, func(t *testing.T) {
			before := len(d.sink.Mails())
			some := names
			if door == "milter" {
				some = everyNth(names, 3) // what differs is in the MTA, not in the messages
			}
			var mu sync.Mutex
			var odd []string
			sendSome(some, func(i int, name string) {
				head, body, _ := strings.Cut(all[name], "\n\n")
				data := []byte(strings.ReplaceAll(fmt.Sprintf("%s\nX-Ordinary: %s %d.\n\n%s", head, door, i, body), "\n", "\r\n"))
				if res := testkit.Send(addr, letter(data)); !res.Accepted() {
					mu.Lock()
					defer mu.Unlock()
					odd = append(odd, fmt.Sprintf("%s: %v", name, res))
				}
			})
			if held := inState(t, d.gateway, "hold"); len(held) > 0 {
				t.Errorf("held: %v", held)
			}
			if len(odd) > 0 {
				t.Errorf("of %d messages these were refused:\n%s", len(some), strings.Join(odd, "\n"))
			}
			want := len(some) - len(odd) - len(inState(t, d.gateway, "hold"))
			testkit.Eventually(t, 120*time.Second, "all arrive", func() bool { return len(d.sink.Mails())-before >= want })
			changed := 0
			for _, m := range d.sink.Mails()[before:] {
				i := 0
				if _, err := fmt.Sscanf(field(string(m.Data), "X-Ordinary"), door+" %d.", &i); err != nil {
					t.Fatalf("%v: %.300s", err, m.Data)
				}
				_, body, _ := strings.Cut(all[some[i]], "\n\n")
				if !bytes.HasSuffix(m.Data, []byte("\r\n\r\n"+strings.ReplaceAll(body, "\n", "\r\n"))) {
					changed++
					t.Errorf("%s was changed", some[i])
				}
			}
			t.Logf("%d messages, %d refused, %d changed", len(some), len(odd), changed)
		})
	}
}

func everyNth(all []string, n int) (some []string) {
	for i := 0; i < len(all); i += n {
		some = append(some, all[i])
	}
	return some
}

// sendSome calls send for all, some at a time.
func sendSome(all []string, send func(i int, name string)) {
	var senders sync.WaitGroup
	next := make(chan int)
	for range 4 {
		senders.Go(func() {
			for i := range next {
				send(i, all[i])
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	senders.Wait()
}
