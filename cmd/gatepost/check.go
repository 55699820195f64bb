package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and all files it names",
		Long: `Reads the configuration and the lists that it names, prints every error as
FILE:LINE:COLUMN: KEY: what is wrong; what to do, and exits with 78 when there
is one. A gateway that runs is not touched: "systemctl reload gatepost", or
SIGHUP, makes it read the file again.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.check() },
	}
}

func (a *app) check() error {
	cfg, err := a.load()
	var problems config.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	if a.json {
		return a.checkJSON(cfg, problems)
	}
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(a.err, "warning: "+w.Error())
	}
	fmt.Fprintf(a.out, "%s: ok\n", a.file)
	return nil
}

// problem is a config.Problem for machines.
type problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	What   string `json:"what"`
	Do     string `json:"do,omitempty"`
}

func (a *app) checkJSON(cfg *config.Config, problems config.Problems) error {
	result := struct {
		File     string    `json:"file"`
		OK       bool      `json:"ok"`
		Errors   []problem `json:"errors,omitempty"`
		Warnings []problem `json:"warnings,omitempty"`
	}{File: a.file, OK: len(problems) == 0, Errors: forMachines(problems)}
	if cfg != nil {
		result.Warnings = forMachines(cfg.Warnings)
	}
	if err := a.printJSON(result); err != nil {
		return err
	}
	if !result.OK {
		return silent(exitConfig)
	}
	return nil
}

func forMachines(problems config.Problems) []problem {
	var all []problem
	for _, p := range problems {
		all = append(all, problem{p.File, p.Line, p.Column, p.Key, p.What, p.Do})
	}
	return all
}
