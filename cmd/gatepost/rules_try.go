package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/rules/policy"
)

// maxTested is how large a message file may be.
const maxTested = 100 << 20

// rulesTested is what rules say of a message file.
type rulesTested struct {
	File   string         `json:"file"`
	Action string         `json:"action"`
	Score  float64        `json:"score"`
	Failed string         `json:"failed,omitempty"`
	Hits   []mail.RuleHit `json:"hits"`
}

func (a *app) rulesTest(files []string, f scanFlags, names []string) error {
	set, err := a.loadRules(files)
	if err != nil {
		return a.rulesRefused(err)
	}
	tx, err := f.toTest()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := readTested(tx, name, a.in); err != nil {
			return exit(exitNoInput, "%s: %w", line(name), err)
		}
		if err := a.printTested(name, testedBy(set, tx)); err != nil {
			return err
		}
	}
	return nil
}

func testedBy(set *policy.Set, tx *mail.Transaction) policy.Result {
	var to mail.Address
	if len(tx.Envelope.Recipients) > 0 {
		to = tx.Envelope.Recipients[0].Address
	}
	return set.Begin(tx, 0).For(to)
}

// toTest is the transaction that the flags describe.
func (f scanFlags) toTest() (*mail.Transaction, error) {
	s := &mail.Session{Via: mail.ViaScan, Helo: line(f.helo), ESMTP: true}
	if f.ip != "" {
		ip, err := netip.ParseAddr(f.ip)
		if err != nil {
			return nil, exit(exitUsage, "--ip: %w", err)
		}
		s.Client = netip.AddrPortFrom(ip.Unmap(), 0)
	}
	tx := &mail.Transaction{ID: "test", Stage: mail.StageMessage, Session: s, Start: time.Now()}
	for i, text := range append([]string{f.from}, f.rcpts...) {
		addr, err := mail.ParseAddress(strings.Trim(text, "<>"), true)
		if err != nil {
			return nil, exit(exitUsage, "%q is no address: %w", text, err)
		}
		if i == 0 {
			tx.Envelope.Sender.Address = addr
		} else {
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: addr})
		}
	}
	return tx, nil
}

// readTested puts a file into the transaction, with CRLF at the ends of its
// lines.
func readTested(tx *mail.Transaction, name string, stdin io.Reader) error {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	var b bytes.Buffer
	w := &mail.CRLFWriter{W: &b}
	n, err := io.Copy(w, io.LimitReader(from, maxTested+1))
	if err == nil {
		err = w.Close()
	}
	if err == nil && n > maxTested {
		err = fmt.Errorf("larger than %d bytes", maxTested)
	}
	if err != nil {
		return err
	}
	if tx.Message, err = mail.ReadMessage(bytes.NewReader(b.Bytes()), int64(b.Len())); err != nil {
		return err
	}
	tx.Inside = mime.Inspect(context.Background(), tx.Message, mime.DefaultConfig())
	return nil
}

func (a *app) printTested(name string, res policy.Result) error {
	action := res.Action.String()
	if res.Action == mail.Continue {
		action = "none"
	}
	if a.json {
		return a.printJSON(rulesTested{name, action, res.Score, res.Failed, res.Hits})
	}
	fmt.Fprintf(a.out, "%s: %s, score %g\n", line(name), action, res.Score)
	for _, h := range res.Hits {
		observes := ""
		if h.Observe {
			observes = " (observes)"
		}
		fmt.Fprintf(a.out, "  %s %s: %s%s\n", line(h.Where), line(h.Rule), line(h.Did), observes)
	}
	return nil
}
