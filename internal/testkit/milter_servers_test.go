package testkit

import (
	"bytes"
	"testing"
	"time"
)

func TestSendmailDelivers(t *testing.T) {
	sink := Up(t, NewSink())
	s := Up(t, NewSendmail(Dir(t), sink.Addr, ""))
	msg := Message("1", "hello", ".dot\r\nlast")
	if res := Send(s.Addr, Letter{From: "s@sender.test", To: []string{"u@example.com"}, Data: msg}); !res.Accepted() {
		t.Fatalf("%v", res)
	}
	mails := sink.Wait(1, 20*time.Second)
	if len(mails) != 1 || !bytes.HasSuffix(mails[0].Data, msg) {
		t.Errorf("got %+v, want one that ends in %q", mails, msg)
	}
}

func TestMilterPostfixDelivers(t *testing.T) {
	sink := Up(t, NewSink())
	p := Up(t, NewMilterPostfix(Dir(t), sink.Addr, ""))
	msg := Message("1", "hello", ".dot\r\nlast")
	for _, addr := range []string{p.Addr, p.Addr6} {
		if res := Send(addr, Letter{From: "s@sender.test", To: []string{"u@example.com"}, Data: msg}); addr != "" && !res.Accepted() {
			t.Fatalf("%s: %v", addr, res)
		}
	}
	mails := sink.Wait(1, 20*time.Second)
	if len(mails) < 1 || !bytes.HasSuffix(mails[0].Data, msg) {
		t.Errorf("got %+v, want one that ends in %q", mails, msg)
	}
}
