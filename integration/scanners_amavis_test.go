package integration

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/testkit"
)

// TestAmavis is the loop of docs/filters/amavis.md: a gateway in front, real
// amavisd behind it, and behind that a gateway that only passes mail on. Who
// sends hears amavisd's no while he is still there.
func TestAmavis(t *testing.T) {
	needRoot(t)
	sink := testkit.Up(t, testkit.NewSink())
	clamd := testkit.Up(t, testkit.NewClamd(testkit.Dir(t)))
	back := newGateway(t, binaries.race, sink.Addr)
	back.Config.Set("listener.mx", "role", `"relay"`)
	back.Config.Set("relay", "networks", `["127.0.0.0/8"]`)
	back.Config.Set("", "hostname", `"back.example.com"`)
	testkit.Up(t, back)
	amavis := testkit.Up(t, testkit.NewAmavis(testkit.Dir(t), back.Addr, clamd.Socket))
	for _, scheme := range []string{"smtp", "lmtp"} {
		t.Run(scheme, func(t *testing.T) {
			before := len(sink.Mails())
			front := newGateway(t, binaries.race, amavis.Addr)
			front.Config.Set(`route."example.com"`, "to", fmt.Sprintf("[%q]", scheme+"://"+amavis.Addr))
			front.Config.Set("listener.mx", "delivery", `"interactive"`)
			testkit.Up(t, front)

			sendWant(t, front.Addr, letter(testkit.Message("clean-"+scheme, "clean", "hello")), testkit.Dot, 250)
			head := string(waitMails(t, sink, before+1)[before].Data)
			for _, by := range []string{"by mx1.example.com", "by back.example.com", "amavis.example.com"} {
				if !strings.Contains(head, by) {
					t.Errorf("no %q in %s", by, head)
				}
			}
			for name, msg := range map[string][]byte{
				"EICAR": testkit.WithAttachment("virus-"+scheme, "virus", "eicar.zip", testkit.Zip("eicar.com", []byte(testkit.EICAR()))),
				"GTUBE": testkit.Message("spam-"+scheme, "spam", testkit.GTUBE()),
			} {
				res := testkit.Send(front.Addr, letter(msg))
				if res.Err != nil || res.Stage != testkit.Dot || res.Code != 554 {
					t.Errorf("%s: %s", name, res)
				}
				t.Logf("%s: %s", name, res)
			}
			emptyQueue(t, front)
			emptyQueue(t, back)
			if n := len(sink.Mails()); n != before+1 {
				t.Errorf("%d messages arrived", n-before)
			}
		})
	}
}
