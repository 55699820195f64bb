package main

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gatepost/milter"
	"gatepost/milter/wire"
)

func (a *app) milterCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "milter",
		Short: "Try out milters: play the MTA, play the milter, measure",
		Long: `Talks to milters without an MTA and to MTAs without a milter. No configuration
is read: sockets are given as sendmail and Postfix write them, unix:/path,
local:/path, inet:port@host, inet6:port@host or inet:host:port.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.milterTestCommand(), a.milterListenCommand(), a.milterBenchCommand())
	return c
}

// milterError gives an error in the talk with a milter its exit code: 69 where
// it can't be reached or is gone, 76 where it breaks the protocol.
func milterError(err error) error {
	var network *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, milter.ErrProtocol), errors.Is(err, wire.ErrMalformed), errors.Is(err, io.ErrUnexpectedEOF):
		return exit(exitProtocol, "%w", err)
	case errors.Is(err, io.EOF):
		return exit(exitUnavailable, "the milter closed the connection: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return exit(exitUnavailable, "the milter does not answer: %w", err)
	case errors.As(err, &network):
		return exit(exitUnavailable, "%w", err)
	}
	return because(err)
}

// checkSocket refuses what is no socket as a matter of usage.
func checkSocket(flag, socket string) error {
	if _, _, err := milter.ParseSocket(socket); err != nil {
		return exit(exitUsage, "%s: %w", flag, err)
	}
	return nil
}

// Names of libmilter's documentation, without SMFIF_ and SMFIP_, by bit.
var (
	actionNames   = []string{"ADDHDRS", "CHGBODY", "ADDRCPT", "DELRCPT", "CHGHDRS", "QUARANTINE", "CHGFROM", "ADDRCPT_PAR", "SETSYMLIST"}
	protocolNames = []string{
		"NOCONNECT", "NOHELO", "NOMAIL", "NORCPT", "NOBODY", "NOHDRS", "NOEOH", "NR_HDR", "NOUNKNOWN", "NODATA", "SKIP", "RCPT_REJ",
		"NR_CONN", "NR_HELO", "NR_MAIL", "NR_RCPT", "NR_DATA", "NR_UNKN", "NR_EOH", "NR_BODY", "HDR_LEADSPC",
	}
)

// bitNames spells out a mask; what has no name is a number.
func bitNames(mask uint32, names []string) []string {
	out := []string{}
	for mask != 0 {
		i := bits.TrailingZeros32(mask)
		mask &^= 1 << i
		if i < len(names) {
			out = append(out, names[i])
		} else {
			out = append(out, fmt.Sprintf("%#x", uint32(1)<<i))
		}
	}
	return out
}

// negotiated is what was agreed, for people and machines.
type negotiated struct {
	Version  uint32              `json:"version"`
	Actions  []string            `json:"actions"`
	Protocol []string            `json:"protocol"`
	Macros   map[string][]string `json:"macros,omitempty"`
}

var stageNames = []string{"connect", "helo", "mail", "rcpt", "data", "end of message", "end of header"}

func newNegotiated(n wire.Negotiation) negotiated {
	out := negotiated{
		Version: n.Version, Actions: bitNames(uint32(n.Actions), actionNames), Protocol: bitNames(uint32(n.Protocol), protocolNames),
	}
	for stage, list := range n.Macros {
		if out.Macros == nil {
			out.Macros = make(map[string][]string)
		}
		out.Macros[stageNames[stage]] = list
	}
	return out
}

func (n negotiated) String() string {
	list := func(s []string) string {
		if len(s) == 0 {
			return "none"
		}
		return strings.Join(s, " ")
	}
	s := fmt.Sprintf("version %d; actions: %s; protocol: %s", n.Version, list(n.Actions), list(n.Protocol))
	for _, stage := range stageNames {
		if names, ok := n.Macros[stage]; ok {
			s += fmt.Sprintf("; macros at %s: %s", stage, list(names))
		}
	}
	return s
}
