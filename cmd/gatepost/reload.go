package main

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"gatepost/internal/config"
)

// reload reads the configuration again and takes over all that a running
// gateway can. A file with an error changes nothing.
func (g *gateway) reload(ctx context.Context) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	cfg, err := config.Load(g.boot.File)
	if err == nil {
		cfg.DNS.Asked = g.metrics.DNSQuery
		err = g.take(ctx, cfg)
	} else {
		g.noted(ruleChange{who: "the gateway", from: "reload", reason: "reload"}, candidate{}, err)
	}
	g.noteReload(err == nil)
	if err != nil {
		for text := range strings.Lines(err.Error()) {
			g.log.Error("configuration not taken, the old one stays", "error", strings.TrimSpace(text))
		}
		return err
	}
	for _, w := range cfg.Warnings {
		g.log.Warn("configuration", "warning", w.Error())
	}
	for _, key := range needRestart(g.boot, cfg) {
		g.log.Warn("configuration: a change needs a restart", "key", key)
	}
	g.log.Info("configuration reloaded")
	return nil
}

func (g *gateway) noteReload(ok bool) {
	now := time.Now()
	g.metrics.Reloaded(now, ok)
	if ok {
		g.mu.Lock()
		g.reloaded = now
		g.mu.Unlock()
	}
}

// take puts a new configuration in place. What can fail comes first; the
// certificates, which config.Load has tried, come last.
func (g *gateway) take(ctx context.Context, cfg *config.Config) error {
	made, err := g.reloadRules(ctx, cfg)
	if err != nil {
		return err
	}
	routes, err := routesOf(cfg)
	if err != nil {
		return err
	}
	if err := g.forward.Update(routes); err != nil {
		return err
	}
	if err := g.queue.Update(cfg.Queue); err != nil {
		return err
	}
	if err := g.commit(&made); err != nil { // from here on nothing fails that rules depend on
		return err
	}
	g.renew(made.judge, made.bare)
	g.noted(ruleChange{who: "the gateway", from: "reload", reason: "reload"}, made, nil)
	g.exportLists(made)
	g.current.Store(cfg)
	g.throttle.Update(cfg.Login)
	g.held.update(cfg)
	g.level.Set(cfg.Log.Level)
	errs := []error{g.updateConsole(cfg)}
	for i, old := range g.boot.Listeners {
		at := slices.IndexFunc(cfg.Listeners, func(l config.Listener) bool { return l.Name == old.Name })
		if at < 0 {
			continue
		}
		fresh := cfg.Listeners[at].Config
		fresh.Address, fresh.Role = old.Address, old.Role // they need a restart
		errs = append(errs, g.servers[i].Update(fresh))
	}
	return errors.Join(errs...)
}

// needRestart names the keys whose change a running gateway can't follow.
func needRestart(old, fresh *config.Config) []string {
	var keys []string
	changed := func(key string, is bool) {
		if is {
			keys = append(keys, key)
		}
	}
	changed("hostname", old.Hostname != fresh.Hostname) // notifications keep the old one
	changed("rules_dir", old.RulesDir != fresh.RulesDir)
	changed("spool", old.Spool != fresh.Spool)
	changed("spool_min_free", old.SpoolMinFree != fresh.SpoolMinFree)
	changed("state", !reflect.DeepEqual(old.Store, fresh.Store))
	changed("history", old.History != fresh.History)
	changed("routing.mta_sts_cache", old.Forward.Routing.STSCache != fresh.Forward.Routing.STSCache)
	changed("control", old.Control != fresh.Control)
	changed("console.address", old.Console.Address != fresh.Console.Address || old.Console.Insecure != fresh.Console.Insecure)
	changed("console.audit", old.Console.Audit != fresh.Console.Audit)
	changed("console.metrics", old.Console.Metrics != fresh.Console.Metrics)
	changed("console.users", (old.ConsoleUsers == nil) != (fresh.ConsoleUsers == nil))
	changed("console.tls_cert", (old.Console.Certificate == "") != (fresh.Console.Certificate == ""))
	changed("digest.key", old.Digest.Key != fresh.Digest.Key)
	changed("log.format", old.Log.Format != fresh.Log.Format)
	changed("log.to", old.Log.To != fresh.Log.To || !reflect.DeepEqual(old.Log.Also, fresh.Log.Also))
	changed("telemetry", old.Telemetry != fresh.Telemetry)
	names := make(map[string]config.Listener)
	for _, l := range fresh.Listeners {
		names[l.Name] = l
	}
	for _, l := range old.Listeners {
		now, there := names[l.Name]
		delete(names, l.Name)
		changed("listener."+l.Name, !there)
		changed("listener."+l.Name+".address", there && now.Address != l.Address)
		changed("listener."+l.Name+".role", there && now.Role != l.Role)
		changed("listener."+l.Name+".handler", there && (now.Handler != l.Handler || now.HandlerOnError != l.HandlerOnError))
	}
	for _, l := range fresh.Listeners {
		_, added := names[l.Name]
		changed("listener."+l.Name, added)
	}
	changed("drac", !reflect.DeepEqual(old.DRAC, fresh.DRAC))
	changed("milter", !reflect.DeepEqual(old.Milters, fresh.Milters))
	return keys
}
