package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"gatepost/internal/config"
	"gatepost/internal/console"
)

// filterFlags adds the flags that choose messages. An empty value is refused:
// it comes from a script whose variable was empty, and would choose more than
// is meant.
func filterFlags(flags *pflag.FlagSet, f *console.Filter) {
	flags.SortFlags = false
	flags.Func("sender", "from this `address`, or \"@domain\"", func(s string) error { return setSender(f, s) })
	lessFilterFlags(flags, f)
}

// lessFilterFlags are those without --sender, for a command where that means
// something else.
func lessFilterFlags(flags *pflag.FlagSet, f *console.Filter) {
	flags.SortFlags = false
	flags.BoolVar(&f.NullSender, "null-sender", false, "notifications, which have no sender")
	flags.Func("rcpt", "that wait for this recipient's `address`, or \"@domain\"", address(&f.Recipient))
	flags.Func("domain", "that wait for a recipient in this `domain`; \".domain\" means those below it", text(&f.Domain))
	flags.Func("route", "that wait for this `destination`, as the log has it; the key of a route means all of its own", text(&f.Route))
	flags.Func("lane", "in one of these `lanes`: fresh, retry, slow or hold, separated by commas", func(s string) error { return setLanes(f, s) })
	flags.Func("older", "received at least so long ago; a `time` like 4h or 2d", age(&f.Older))
	flags.Func("younger", "received less than so long ago; a `time`", age(&f.Younger))
	flags.Func("size-above", "larger than this `size`, like 5MB", size(&f.SizeAbove))
	flags.Func("size-below", "smaller than this `size`", size(&f.SizeBelow))
	flags.Func("score-above", "with a spam score above this `number`", score(&f.ScoreAbove))
	flags.Func("score-below", "with a spam score below this `number`", score(&f.ScoreBelow))
	flags.Func("reason", "whose reason to wait or to be held matches this regular `expression`", func(s string) error { return setReason(f, s) })
	flags.Func("listener", "that came in at this `listener`", text(&f.Listener))
	flags.Func("user", "from this authenticated `user`", text(&f.User))
}

func text(p *string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("it is empty")
		}
		*p = s
		return nil
	}
}

// address takes one with or without its angle brackets.
func address(p *string) func(string) error {
	return func(s string) error {
		s = strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
		if !strings.Contains(s, "@") && !strings.EqualFold(s, "postmaster") {
			return errors.New("want user@domain or @domain")
		}
		*p = s
		return nil
	}
}

// setSender also takes the ways in which the null sender is shown.
func setSender(f *console.Filter, s string) error {
	if s == "<>" || s == nullSender {
		f.NullSender = true
		return nil
	}
	return address(&f.Sender)(s)
}

func setLanes(f *console.Filter, s string) error {
	for lane := range strings.SplitSeq(s, ",") {
		if !slices.Contains(console.Lanes(), lane) {
			return errors.New("want fresh, retry, slow or hold")
		}
		f.Lanes = append(f.Lanes, lane)
	}
	return nil
}

func age(p *time.Duration) func(string) error {
	return func(s string) error {
		d, err := config.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("%w; write a time like 4h or 2d", err)
		}
		if d <= 0 {
			return errors.New("want more than 0")
		}
		*p = d
		return nil
	}
}

func size(p *int64) func(string) error {
	return func(s string) error {
		n, err := config.ParseSize(s)
		if err != nil {
			return fmt.Errorf("%w; write a size like 500kB or 5MB", err)
		}
		if n <= 0 {
			return errors.New("want more than 0")
		}
		*p = n
		return nil
	}
}

func score(p **float64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return errors.New("want a number like 7.5")
		}
		*p = &n
		return nil
	}
}

func setReason(f *console.Filter, s string) error {
	if _, err := regexp.Compile(s); err != nil {
		return err
	}
	return text(&f.Reason)(s)
}
