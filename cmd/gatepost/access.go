package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/proxy/forward"
	"gatepost/rules"
	"gatepost/rules/access"
)

func (a *app) accessCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "access",
		Short: "Ask the access map and the relay rules",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.accessTestCommand())
	return cmd
}

// accessFlags describe a mail that has not come.
type accessFlags struct {
	client, name, resolve, helo, from, user, role string
	rcpts                                         []string
	tls, window, sendmail                         bool
}

func (a *app) accessTestCommand() *cobra.Command {
	var f accessFlags
	cmd := &cobra.Command{
		Use:   "test [KEY...]",
		Short: "Show which line decides, and every key that was tried before it",
		Long: `With KEYs it searches the access map for them: From:u@example.com under that
tag, u@example.com, example.com or 192.0.2.1 under each tag that may have it.

Without it asks the rules as a listener would for a client, a sender and
recipients, and prints the answers with the line that decided and, in order,
every key and list that was asked before. No mail is sent and nothing is looked
up: --name is the client's verified name, --resolve what became of its look-up.
Only the access map and the rules of [relay] are asked, no filters.

With --sendmail the answers are those of sendmail with the same tables: what it
said before is compared with what is said now.

Exit codes: 0 all is taken (KEYs: each was found), 75 something is put off, 77
something is refused, 66 a KEY was not found, 64 usage, 78 configuration.`,
		Example: `  gatepost access test --client 192.0.2.1 --name mx.example.org --from a@example.org --rcpt b@example.com
  gatepost access test Connect:192.0.2.1 spammer@example.org`,
		RunE: func(cmd *cobra.Command, keys []string) error {
			asked := slices.ContainsFunc([]string{"client", "from", "rcpt"}, func(name string) bool { return cmd.Flags().Changed(name) })
			switch {
			case len(keys) > 0 && asked:
				return exit(exitUsage, "either KEYs or --client, --from and --rcpt")
			case len(keys) > 0:
				return a.accessKeys(keys)
			case asked:
				return a.accessMail(f, cmd.Flags().Changed("from"))
			}
			return exit(exitUsage, "nothing to ask; give KEYs, or --client, --from and --rcpt")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.client, "client", "", "the client's `address`")
	flags.StringVar(&f.name, "name", "", "the client's `name`")
	flags.StringVar(&f.resolve, "resolve", "", "`what` became of its look-up: OK (default with --name), FAIL (default without), FORGED or TEMP")
	flags.StringVar(&f.helo, "helo", "", "the `name` that the client says")
	flags.StringVar(&f.from, "from", "", "the sender's `address`; <> is the null sender")
	flags.StringArrayVar(&f.rcpts, "rcpt", nil, "a recipient's `address`; may be repeated")
	flags.StringVar(&f.user, "auth", "", "the `user` that logged in")
	flags.BoolVar(&f.tls, "tls", false, "the session is encrypted")
	flags.BoolVar(&f.window, "window", false, "the client has an open relay window")
	flags.BoolVar(&f.sendmail, "sendmail", false, "answer as sendmail would with the same tables, not as we do")
	flags.StringVar(&f.role, "role", "mx", "the listener's `role`: mx, submission, submissions or relay")
	return cmd
}

// accessRules are the rules of a configuration, with its routes.
func (a *app) accessRules() (*config.Config, *rules.Set, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	routes, err := forward.New(cfg.Forward, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, because(err)
	}
	defer routes.Close()
	policy := cfg.Rules
	policy.Routed = func(a mail.Address) bool { _, ok := routes.Route(a); return ok }
	policy.Refused = routes.Refusal
	set, err := rules.Load(policy)
	return cfg, set, because(err)
}

// accessTry is an access.Try for machines.
type accessTry struct {
	Key   string `json:"key"`
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	Value string `json:"value,omitempty"`
}

func triesForMachines(tried []access.Try) []accessTry {
	all := make([]accessTry, len(tried))
	for i, t := range tried {
		all[i] = accessTry{t.Key, t.Path, t.Line, t.Value}
	}
	return all
}

// accessKey is what was found for a key under a tag.
type accessKey struct {
	Key   string      `json:"key"`
	Tag   string      `json:"tag"`
	Found bool        `json:"found"`
	File  string      `json:"file,omitempty"`
	Line  int         `json:"line,omitempty"`
	Value string      `json:"value,omitempty"`
	Tried []accessTry `json:"tried"`
}

func (a *app) accessKeys(keys []string) error {
	_, set, err := a.accessRules()
	if err != nil {
		return err
	}
	missing := false
	for _, key := range keys {
		results, err := set.Lookup(key)
		if err != nil {
			return exit(exitUsage, "%q: %w", key, err)
		}
		found := false
		for _, r := range results {
			found = found || r.Found
			if err := a.printAccessKey(key, r); err != nil {
				return err
			}
		}
		missing = missing || !found
	}
	if missing {
		return silent(exitNoInput)
	}
	return nil
}

func (a *app) printAccessKey(key string, r access.Result) error {
	k := accessKey{Key: key, Tag: r.Tag.String(), Found: r.Found, Tried: triesForMachines(r.Tried)}
	answer := "nothing found"
	if r.Found {
		k.File, k.Line, k.Value = r.Hit.Path, r.Hit.Line, r.Hit.Text
		answer = fmt.Sprintf("%s  (%s:%d: %s%s)", r.Hit.Text, r.Hit.Path, r.Hit.Line, r.Hit.Tag, r.Hit.Key)
	}
	if a.json {
		return a.printJSON(k)
	}
	fmt.Fprintln(a.out, visible(fmt.Sprintf("%-12s %s", cmp.Or(k.Tag, "untagged"), answer)))
	printTried(a.out, r.Tried)
	return nil
}

// printTried lists what was asked, in order.
func printTried(w io.Writer, tried []access.Try) {
	for i, t := range tried {
		lead := "    tried  "
		if i > 0 {
			lead = "           "
		}
		found := ""
		switch {
		case t.Line > 0:
			found = fmt.Sprintf("  -> %s:%d %s", t.Path, t.Line, t.Value)
		case t.Path != "":
			found = fmt.Sprintf("  -> %s has %s", t.Path, t.Value)
		}
		fmt.Fprintln(w, visible(lead+t.Key+found))
	}
}

// accessStage is what was answered at a stage.
type accessStage struct {
	Stage  string      `json:"stage"`
	Of     string      `json:"of,omitempty"`
	Action string      `json:"action"`
	Reply  string      `json:"reply,omitempty"`
	Reason string      `json:"reason,omitempty"`
	Later  []string    `json:"later,omitempty"`
	Tried  []accessTry `json:"tried"`

	action mail.Action
	tried  []access.Try
}

func (a *app) accessMail(f accessFlags, hasFrom bool) error {
	if f.sendmail {
		return a.accessSendmail(f, hasFrom)
	}
	tx, rcpts, err := f.transaction()
	if err != nil {
		return err
	}
	cfg, set, err := a.accessRules()
	if err != nil {
		return err
	}
	ip := tx.Session.Client.Addr()
	tx.Session.Trusted = slices.ContainsFunc(cfg.Rules.Relay.Networks, func(n netip.Prefix) bool { return n.Contains(ip) })
	var stages []accessStage
	explain := func(stage mail.Stage, of string, rcpt *mail.Path) {
		tx.Stage = stage
		v, tried := set.Explain(tx, rcpt)
		s := accessStage{Stage: stage.String(), Of: of, Action: v.Action.String(), Reason: v.Reason, Tried: triesForMachines(tried), action: v.Action, tried: tried}
		if v.Action >= mail.TempFail {
			s.Reply = v.Reply.String()
		} else if rcpt != nil {
			s.Later = set.Later(tx, rcpt.Address)
		}
		stages = append(stages, s)
	}
	if f.client != "" {
		explain(mail.StageConnect, f.client, nil)
	}
	if hasFrom {
		explain(mail.StageMail, tx.Envelope.Sender.Address.Path(), nil)
	}
	for i := range rcpts {
		explain(mail.StageRcpt, rcpts[i].Address.Path(), &rcpts[i])
	}
	return a.printAccess(stages)
}

// accessSendmail asks the same of sendmail's rulesets. Addresses are read as
// they read them: with routes, quotes and all.
func (a *app) accessSendmail(f accessFlags, hasFrom bool) error {
	sess := &mail.Session{Resolve: mail.Resolve(strings.ToUpper(f.resolve))}
	if err := f.readClient(sess); err != nil {
		return err
	}
	_, set, err := a.accessRules()
	if err != nil {
		return err
	}
	e := set.Sendmail()
	q := access.Query{Client: access.Client{Addr: sess.Client.Addr(), Name: sess.Name, Resolve: sess.Resolve}}
	if f.user != "" {
		q.Mech, e.Mechs = "PLAIN", []string{"PLAIN"}
	}
	var stages []accessStage
	ask := func(stage, of string, to *access.Mailbox, check func(access.Query, *access.Trace) access.Answer) {
		tr := &access.Trace{}
		answer := access.Answer{}
		if to != nil {
			var refusal mail.Reply
			if *to, refusal = access.ReadMailbox(of); !refusal.IsZero() {
				answer = access.Answer{Action: mail.Reject, Reply: refusal}
			}
		}
		if answer.Action == mail.Continue {
			answer = check(q, tr)
		}
		s := accessStage{Stage: stage, Of: of, Action: cmp.Or(answer.Word, answer.Action.String()), Reason: answer.Reason, Tried: triesForMachines(tr.Tried), action: answer.Action, tried: tr.Tried}
		if !answer.Reply.IsZero() {
			s.Reply = answer.Reply.String()
		}
		stages = append(stages, s)
	}
	if f.client != "" && !e.DelayChecks.On() {
		ask("connect", f.client, nil, e.CheckRelay)
	}
	if hasFrom && !e.DelayChecks.On() {
		ask("mail", f.from, &q.From, e.CheckMail)
	} else if hasFrom {
		q.From, _ = access.ReadMailbox(f.from)
	}
	for _, to := range f.rcpts {
		ask("rcpt", to, &q.To, e.CheckRcpt)
	}
	return a.printAccess(stages)
}

func (a *app) printAccess(stages []accessStage) error {
	worst := mail.Continue
	for _, s := range stages {
		worst = max(worst, s.action)
		if a.json {
			if err := a.printJSON(s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(a.out, visible(strings.TrimSpace(fmt.Sprintf("%-8s%s  %s %s", s.Stage, s.Of, s.Action, s.Reply))))
		if s.Reason != "" {
			fmt.Fprintln(a.out, visible("    by     "+s.Reason))
		}
		for _, text := range s.Later {
			fmt.Fprintln(a.out, visible("    then   "+text))
		}
		printTried(a.out, s.tried)
	}
	switch worst {
	case mail.TempFail:
		return silent(exitTemporary)
	case mail.Reject:
		return silent(exitPermission)
	}
	return nil
}

// transaction reads the flags.
func (f accessFlags) transaction() (*mail.Transaction, []mail.Path, error) {
	sess := &mail.Session{
		ID: "access-test", Via: mail.ViaSMTP, ESMTP: true, Role: f.role, Window: f.window, User: f.user,
		Helo: line(f.helo), Resolve: mail.Resolve(strings.ToUpper(f.resolve)),
	}
	if f.user != "" {
		sess.AuthMech = "PLAIN"
	}
	if f.tls || f.user != "" {
		sess.TLS = &mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_256_GCM_SHA384"}
	}
	if !slices.Contains([]string{"mx", "submission", "submissions", "relay"}, f.role) {
		return nil, nil, exit(exitUsage, "--role %q is unknown; write mx, submission, submissions or relay", f.role)
	}
	if err := f.readClient(sess); err != nil {
		return nil, nil, err
	}
	tx := &mail.Transaction{ID: "access-test", Session: sess}
	sender, err := mail.ParseAddress(strings.Trim(f.from, "<>"), true)
	if err != nil {
		return nil, nil, exit(exitUsage, "--from %q: %w", f.from, err)
	}
	tx.Envelope.Sender.Address = sender
	var rcpts []mail.Path
	for _, text := range f.rcpts {
		to, err := mail.ParseAddress(strings.Trim(text, "<>"), true)
		if err != nil {
			return nil, nil, exit(exitUsage, "--rcpt %q: %w", text, err)
		}
		if to.IsNull() {
			return nil, nil, exit(exitUsage, "--rcpt %q is no address", text)
		}
		rcpts = append(rcpts, mail.Path{Address: to})
	}
	return tx, rcpts, nil
}

func (f accessFlags) readClient(sess *mail.Session) error {
	if f.client != "" {
		ip, err := netip.ParseAddr(strings.TrimPrefix(f.client, "IPv6:"))
		if err != nil {
			return exit(exitUsage, "--client: %w", err)
		}
		sess.Client = netip.AddrPortFrom(ip.Unmap().WithZone(""), 0)
	}
	name := ""
	switch {
	case f.name != "":
		var err error
		if name, err = mail.ParseDomain(f.name); err != nil {
			return exit(exitUsage, "--name %q: %w", f.name, err)
		}
	case sess.Client.Addr().IsLoopback() && f.resolve == "":
		name = "localhost" // as a listener has it, without a question
	}
	switch sess.Resolve {
	case "":
		sess.Resolve = mail.ResolveFail
		if name != "" {
			sess.Resolve = mail.ResolveOK
		}
	case mail.ResolveOK, mail.ResolveFail, mail.ResolveForged, mail.ResolveTemp:
	default:
		return exit(exitUsage, "--resolve %q is unknown; write OK, FAIL, FORGED or TEMP", f.resolve)
	}
	sess.PTR = name
	if sess.Resolve == mail.ResolveOK {
		if name == "" {
			return exit(exitUsage, "--resolve OK needs --name")
		}
		sess.Name = name
	}
	return nil
}
