//go:build !failpoint

package main

import "github.com/spf13/cobra"

// failpoint is nil: only a binary built for tests has them.
func failpoint() (func(step string) error, error) { return nil, nil }

func addFailpoints(*app, *cobra.Command) {}
