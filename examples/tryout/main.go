// Command tryout shows the gateway at work on one machine, in a minute: it
// starts clamd and spamd where they are installed, the gateway in front of a
// next hop and a DNS of its own, sends the sample messages through it, and prints
// what became of each and why. It stays up until Ctrl-C, its console too.
// Everything is on loopback and in one temporary directory, which is removed at
// the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"gatepost/internal/testkit"
)

func main() {
	binary := flag.String("binary", "bin/gatepost", "the gateway")
	samples := flag.String("samples", "examples/samples", "folder of the sample messages")
	rules := flag.String("rules", "examples/rules.toml", "policy rules")
	once := flag.Bool("once", false, "end after the table")
	flag.Parse()
	if err := run(*binary, *samples, *rules, *once); err != nil {
		fmt.Fprintln(os.Stderr, "tryout:", err)
		os.Exit(1)
	}
}

func run(binary, samples, rules string, once bool) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := testkit.TempDir()
	if err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()

	fmt.Println("Gatepost: a try-out on this machine. Nothing leaves it.")
	fmt.Println()
	site, err := build(dir, binary, rules)
	if err != nil {
		return err
	}
	defer site.stop()
	if err := site.start(ctx); err != nil {
		return err
	}
	rows, err := site.sendAll(ctx, samples)
	if err != nil {
		return err
	}
	fmt.Println()
	printTable(os.Stdout, rows)
	site.explain(os.Stdout)
	if err := site.printHistory(ctx, os.Stdout, len(rows)); err != nil {
		return err
	}
	if once {
		return nil
	}
	site.invite(os.Stdout, rows)
	<-ctx.Done()
	fmt.Println("\nStopping.")
	return nil
}
