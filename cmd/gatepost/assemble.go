package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatepost/filters"
	"gatepost/filters/blocklist"
	"gatepost/internal/config"
	"gatepost/internal/console"
	"gatepost/internal/console/audit"
	"gatepost/internal/drac"
	book "gatepost/internal/generations"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/metrics"
	"gatepost/internal/state"
	"gatepost/internal/users"
	"gatepost/milter"
	"gatepost/proxy"
	"gatepost/proxy/queue"
	"gatepost/proxy/spool"
	"gatepost/rules"
	"gatepost/rules/policy"
)

// gateway is all parts of a gateway that takes mail.
type gateway struct {
	boot    *config.Config // what it was started with
	log     *slog.Logger
	level   *slog.LevelVar
	metrics *metrics.Metrics
	state   *state.Fallback // windows, lists, rates, greylists

	history    *history.Store // nil: there is none
	told       witnesses      // of what happens to mail
	spool      *spool.Spool
	forward    hops
	queue      *queue.Queue
	rescan     *proxy.Rescanner
	admin      sync.Mutex // held while somebody acts on messages
	judges     generations
	bare       generations           // rules without filters, before the handlers of listeners
	frame      atomic.Pointer[frame] // around those handlers
	daemons    atomic.Pointer[[]daemon]
	ruleWork   *ruleWork
	book       *book.Store     // of rules
	rehearsing sync.Mutex      // one at a time
	throttle   *users.Throttle // of failed logins, on all listeners
	windows    *windows
	drac       *drac.Server                   // nil: there is none
	servers    []*proxy.Server                // one for each listener of boot
	handlerOf  map[string]func() mail.Handler // by the name of the listener
	milters    []*milter.Server
	held       heldWork
	heldCount  heldCount
	public     *console.Public // nil: there is none
	control    *console.Control
	// consoleUsers may log in to the pages.
	consoleUsers consoleUsers
	audit        *audit.Log
	recent       *metrics.Recent
	steps        atomic.Pointer[[]filters.Step] // of the present generation
	current      atomic.Pointer[config.Config]  // as last taken over

	started  time.Time
	draining atomic.Bool

	reloading sync.Mutex
	mu        sync.Mutex
	reloaded  time.Time
}

// assemble makes a gateway. The only thing it touches is the spool, which it
// locks and reads: close gives it back. The store is opened at its first use.
func assemble(cfg *config.Config, log *slog.Logger, level *slog.LevelVar, m *metrics.Metrics) (g *gateway, err error) {
	g = &gateway{boot: cfg, log: log, level: level, metrics: m, started: time.Now()}
	g.judges.log, g.bare.log = log, log
	g.recent = metrics.NewRecent(m)
	g.told.feed, g.told.stats = console.NewFeed(), m
	g.current.Store(cfg)
	cfg.DNS.Asked = m.DNSQuery
	fail, err := failpoint()
	if err != nil {
		return nil, err
	}
	if err := g.assembleHistory(cfg); err != nil {
		return nil, err
	}
	if g.book, err = book.New(book.Config{Dir: cfg.RulesDir, Keep: keepGenerations, Failpoint: fail}); err != nil {
		return nil, err
	}
	if g.spool, err = spool.Open(spool.Options{Dir: cfg.Spool, MinFree: cfg.SpoolMinFree, Log: log, Committed: g.committed, Failpoint: fail}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if g.state, err = state.Open(cfg.Store, state.Options{Log: log, Stats: g.metrics}); err != nil {
		return nil, err
	}
	if g.forward, err = newHops(cfg, log); err != nil {
		return nil, err
	}
	g.queue, err = queue.New(cfg.Queue, queue.Deps{
		Spool: g.spool, Deliverer: g.forward, Stats: g.metrics, Recorder: g.told, Log: log, Hostname: cfg.Hostname, Failpoint: fail,
		Forged: g.forged, Sign: g.signNotification,
	})
	if err != nil {
		return nil, err
	}
	g.ruleWork = &ruleWork{
		hits: policy.NewHits(), lists: policy.NewLive(listStore{g.state}, log),
		notices: &noticeWriter{cfg.Hostname, g.spool, g.queue, log},
		heard:   g.tellOf,
	}
	if err := g.assembleRescan(cfg, fail); err != nil {
		return nil, err
	}
	if err := g.assembleDRAC(cfg); err != nil {
		return nil, err
	}
	if err := g.assembleListeners(cfg); err != nil {
		return nil, err
	}
	if err := g.assembleMilters(cfg); err != nil {
		return nil, err
	}
	g.metrics.Gather(metrics.Gathered{Queues: g.queues, SpoolFree: g.spoolFree, Held: g.heldByKind, Certificates: g.certificates, Now: time.Now})
	return g, g.assembleConsole(cfg)
}

func (g *gateway) assembleListeners(cfg *config.Config) error {
	resolver, err := clientNames(cfg)
	if err != nil {
		return err
	}
	g.throttle = users.NewThrottle(cfg.Login, g.state, g.log)
	for _, l := range cfg.Listeners {
		handlers, err := g.handlers(l)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		s, err := proxy.New(l.Config, proxy.Deps{
			NewHandler: handlers, Spool: g.spool, Queue: g.queue, Unscanned: g.rescan, Courier: g.queue, Resolver: resolver, Windows: g.windows, Throttle: g.throttle, Stats: g.metrics, Log: g.log, Pauses: g.pause,
		})
		if err != nil {
			return err
		}
		g.servers = append(g.servers, s)
		g.handlerOf[l.Name] = handlers
	}
	return nil
}

// assembleMilters makes the entries for MTAs. While they judge a message, it
// lies where the spool keeps its drafts.
func (g *gateway) assembleMilters(cfg *config.Config) error {
	for _, m := range cfg.Milters {
		s, err := milter.New(m, milter.Deps{
			NewHandler: g.judges.handler, Decides: g.judges.decides, ReadsBody: g.judges.readsBody, HearsUnknown: g.judges.hearsUnknown, Log: g.log,
			NewDraft: func(id string) milter.Draft { return g.spool.Draft(id) }, Hold: g.hold, Stats: g.metrics,
		})
		if err != nil {
			return fmt.Errorf("milter %s: %w", m.Name, err)
		}
		g.milters = append(g.milters, s)
	}
	return nil
}

// hold keeps what an MTA is to drop, as it is for us to hold.
func (g *gateway) hold(ctx context.Context, tx *mail.Transaction, copies []milter.Held) error {
	all := make([]proxy.Held, len(copies))
	for i, c := range copies {
		all[i] = proxy.Held(c)
	}
	return proxy.Hold(ctx, g.spool, g.queue, g.rescan, tx, all)
}

func (g *gateway) assembleConsole(cfg *config.Config) (err error) {
	g.audit = audit.New(cfg.Console.Audit, g.log)
	if err := g.assembleQuarantine(cfg); err != nil {
		return err
	}
	deps := console.ControlDeps{
		Held: g.heldQueue(), Digests: digestAPI{g.held.digests},
		RuleHits: g.counted, RuleBook: ruleBook{g}, Queue: mailQueue{g.queue, &g.admin, g.told}, State: g.state, Status: g.status, Reload: g.reload, Scan: g.trial, Log: g.log,
		Health: g.health, Settings: g.settings, Users: g.knownUsers, Audit: g.audit, Feed: g.told.feed,
	}
	if g.history != nil {
		deps.History = g.history
	}
	g.control = console.NewControl(cfg.Control, deps)
	if cfg.Console.Address == "" {
		return nil
	}
	pages, err := g.newPages(cfg)
	if err != nil {
		return err
	}
	g.public, err = console.NewPublic(cfg.Console, console.Deps{Ready: g.ready, Metrics: g.metrics.Handler(), Held: g.held.digests.Handler(), Pages: pages, Log: g.log})
	return err
}

// router tells what the routes say of a recipient.
type router interface {
	Route(mail.Address) (dest string, ok bool)
	Refusal(mail.Address) mail.Reply
}

func routedBy(to router) func(mail.Address) bool {
	return func(a mail.Address) bool { _, ok := to.Route(a); return ok }
}

// newJudge makes the filters and the rules over them.
func newJudge(cfg *config.Config, to router, t tools) (*ruled, error) {
	policies := cfg.Rules
	policies.Routed = routedBy(to)
	policies.Refused = to.Refusal
	if t.work != nil {
		policies.Files.Dynamic = t.work.lists
	}
	policies.Personal = t.personal
	set, err := rules.Load(policies)
	if err != nil {
		return nil, err
	}
	b := builder{tools: t, cfg: cfg, set: set}
	steps, err := b.steps()
	if err != nil {
		return nil, err
	}
	filtering := cfg.Filtering
	filtering.Inspect = inspector(cfg, set)
	if filtering.Finishers, err = t.finishers(cfg); err != nil {
		return nil, err
	}
	m, err := filters.New(filtering, steps, set, t.observer, t.log)
	// Without a filter, and without rules about content, nobody wants the body.
	return &ruled{
		Multiplexer: m, rules: set, work: t.work, stages: decides(cfg, set, steps), readsBody: t.signer != nil || set.AddsText() || !set.Policies().Empty(mail.StageMessage) || slices.ContainsFunc(steps, looksInside), blockers: b.blockers, daemons: b.daemons, steps: effective(steps),
	}, err
}

// newJudges makes a generation: the filters with the rules over them, and the
// rules alone where a listener has a handler.
func (g *gateway) newJudges(cfg *config.Config) (judge, bare *ruled, err error) {
	t := g.tools()
	if t.signer, err = g.newSigner(cfg); err != nil {
		return nil, nil, err
	}
	if judge, err = newJudge(cfg, g.forward, t); err != nil {
		return nil, nil, err
	}
	if judge.frame, err = g.newFrame(cfg, judge.rules); err != nil {
		return nil, nil, err
	}
	if slices.ContainsFunc(g.boot.Listeners, func(l config.Listener) bool { return l.Handler != "" }) {
		alone := *cfg
		alone.Filters = nil
		bare, err = newJudge(&alone, g.forward, g.tools()) // without signer: what the handler changes comes behind
	}
	judge.frame.signer = t.signer
	return judge, bare, err
}

// renew puts a generation in place.
func (g *gateway) renew(judge, bare *ruled) {
	g.frame.Store(judge.frame)
	g.ruleWork.lists.Use(judge.rules.Policies().DynamicLists())
	g.daemons.Store(&judge.daemons)
	g.steps.Store(&judge.steps)
	g.judges.replace(judge)
	if bare != nil {
		g.bare.replace(bare)
	}
}

// ruled is a multiplexer that knows when it may have an opinion.
type ruled struct {
	*filters.Multiplexer
	rules     *rules.Set
	work      *ruleWork // nil: none
	stages    []mail.Stage
	readsBody bool
	frame     *frame              // nil: none
	blockers  []*blocklist.Filter // who watch what is decided
	daemons   []daemon            // scanners that tell their version
	steps     []filters.Step
}

func (r *ruled) Decides() []mail.Stage { return r.stages }
func (r *ruled) ReadsBody() bool       { return r.readsBody || r.frame.readsBody() }

// decides lists the stages of the envelope at which a generation may say no to
// an MTA: where the access map acts, at CONNECT where a filter that is down
// refuses the connection, and wherever a milter among the filters is asked.
func decides(cfg *config.Config, set *rules.Set, steps []filters.Step) []mail.Stage {
	at := make(map[mail.Stage]bool)
	for _, stage := range set.Policies().Stages() {
		at[stage] = true
	}
	if cfg.Rules.Policy.Recipients == rules.RecipientsOneClass {
		at[mail.StageRcpt] = true
	}
	if cfg.Rules.Relay.Access != "" {
		at[mail.StageConnect], at[mail.StageMail], at[mail.StageRcpt] = true, true, true
	}
	if !cfg.Recipients.Empty() && len(cfg.Recipients.Milters) > 0 {
		at[mail.StageRcpt] = true
	}
	if slices.ContainsFunc(cfg.Filters, func(f config.Filter) bool { return refusesAtRcpt(f, cfg.Rules.Policy) }) {
		at[mail.StageRcpt] = true
	}
	for _, s := range steps {
		if s.OnError == filters.Refuse {
			at[mail.StageConnect] = true
		}
		for _, stage := range s.Stages {
			at[stage] = true
		}
	}
	stages := []mail.Stage{}
	for stage := mail.StageConnect; stage <= mail.StageRcpt; stage++ {
		if at[stage] {
			stages = append(stages, stage)
		}
	}
	return stages
}

// listen opens all sockets, the one that leaves a file behind last, and makes the first generation of filters.
func (g *gateway) listen() error {
	if err := g.firstRules(); err != nil {
		return err
	}
	if g.public != nil {
		if err := g.public.Listen(); err != nil {
			return err
		}
	}
	for _, s := range g.servers {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	if g.drac != nil {
		if err := g.drac.Listen(); err != nil {
			return err
		}
	}
	for i, m := range g.milters {
		if err := m.Listen(); err != nil {
			return fmt.Errorf("milter %s: %w", g.boot.Milters[i].Name, err)
		}
	}
	if err := g.control.Listen(); err != nil {
		return err
	}
	g.noteReload(true)
	return nil
}

// run works until ctx ends. Then nothing new is taken, sessions and deliveries
// on their way have their grace time, and what is known is made durable. Each
// layer ends after those that need it.
func (g *gateway) run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	outer := []service{g.control.Run, g.recent.Run}
	if g.public != nil {
		outer = append(outer, g.public.Run)
	}
	var listeners []service
	for _, s := range g.servers {
		listeners = append(listeners, s.Run)
	}
	for _, m := range g.milters {
		listeners = append(listeners, m.Run)
	}
	if g.drac != nil {
		listeners = append(listeners, g.drac.Run)
	}
	faces := start(fail, outer...)
	records := start(fail, g.records)
	disk := start(fail, g.spool.Run)
	delivery := start(fail, g.queue.Run)
	judging := start(fail, g.rescan.Run, g.ruleWork.lists.Run, g.keepHits, g.held.lists.Run, g.held.keeper.Run, g.held.digests.Run, g.held.notices.Run, g.watch)
	accept := start(fail, listeners...)
	g.log.Info("started", "version", thisBuild().Version, "hostname", g.boot.Hostname, "listeners", len(g.servers), "milters", len(g.milters))
	tellSystemd("READY=1")
	<-ctx.Done()

	g.draining.Store(true)
	tellSystemd("STOPPING=1")
	g.log.Info("draining")
	accept.stop()
	judging.stop()
	g.judges.close()
	g.bare.close()
	delivery.stop()
	disk.stop()
	faces.stop()
	records.stop()
	if err := context.Cause(ctx); err != context.Canceled {
		return exit(exitBug, "%w", err)
	}
	g.log.Info("stopped")
	return nil
}

// close gives the spool and the store back.
func (g *gateway) close() {
	if g.state != nil {
		if err := g.state.Close(); err != nil {
			g.log.Error("store not closed", "error", err)
		}
	}
	if g.forward.Forwarder != nil {
		g.forward.Close()
	}
	if err := g.spool.Close(); err != nil {
		g.log.Error("spool not closed", "error", err)
	}
}

// ready says why no mail can be taken.
func (g *gateway) ready() error {
	if g.draining.Load() {
		return errDraining
	}
	return g.spool.Ready()
}

func (g *gateway) queues() map[string]metrics.Queue {
	all := make(map[string]metrics.Queue)
	for lane, c := range g.queue.Counts() {
		all[string(lane)] = metrics.Queue{Messages: c.Messages, Oldest: c.Oldest}
	}
	return all
}

func (g *gateway) spoolFree() (float64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(g.boot.Spool, &fs); err != nil {
		return 0, err
	}
	return float64(fs.Bavail) * float64(fs.Bsize), nil
}

func (g *gateway) status() console.Status {
	s := console.Status{
		Version: thisBuild().Version, Hostname: g.boot.Hostname, Config: g.boot.File, PID: syscall.Getpid(), Started: g.started,
	}
	g.mu.Lock()
	s.Reloaded = g.reloaded
	g.mu.Unlock()
	s.Daemons = g.daemonStatus()
	s.Queue = make(map[string]int)
	for lane, c := range g.queue.Counts() {
		s.Queue[string(lane)] = c.Messages
	}
	s.State.Name = g.state.Name()
	if err := g.state.Away(); err != nil {
		s.State.Away = err.Error()
	}
	if err := g.ready(); err != nil {
		s.NotReady = err.Error()
	}
	for i, l := range g.boot.Listeners {
		s.Listeners = append(s.Listeners, console.Listener{Name: l.Name, Address: g.servers[i].Addr().String()})
	}
	for i, m := range g.boot.Milters {
		s.Listeners = append(s.Listeners, console.Listener{Name: m.Name, Address: g.milters[i].Addr().String()})
	}
	return s
}
