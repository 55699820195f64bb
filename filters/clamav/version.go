package clamav

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Version is what clamd says of itself.
type Version struct {
	Text string    // "ClamAV 1.4.3/27431"
	Made time.Time // when the signatures were made; zero: it doesn't say
}

const (
	// askEvery is how often clamd is asked for its version; freshclam looks
	// for signatures once an hour or less.
	askEvery = 10 * time.Minute
	// askAgain is how soon when it did not answer.
	askAgain   = time.Minute
	askTimeout = 10 * time.Second
)

// Run asks clamd for its version now and then, until ctx ends, and tells when
// its signatures get old.
func (f *Filter) Run(ctx context.Context) error {
	late := false
	for {
		wait := askEvery
		if err := f.askVersion(ctx); err != nil {
			wait = askAgain
		} else if v := f.version.Load(); f.isLate(v) != late {
			late = !late
			f.tell(v, late)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (f *Filter) tell(v *Version, late bool) {
	if !late {
		f.cfg.Log.Info("signatures are new again", "version", v.Text, "made", v.Made)
		return
	}
	f.cfg.Log.Warn("signatures are old: is freshclam running?", "version", v.Text, "made", v.Made, "max_age", f.cfg.MaxAge)
}

func (f *Filter) isLate(v *Version) bool {
	return v != nil && !v.Made.IsZero() && time.Since(v.Made) > f.cfg.MaxAge
}

// Signatures is the version of clamd as it last said, and whether its
// signatures are older than they may be; ok: it has said something.
func (f *Filter) Signatures() (v Version, late, ok bool) {
	known := f.version.Load()
	if known == nil {
		return Version{}, false, false
	}
	return *known, f.isLate(known), true
}

// outdated is a finding while the signatures are old.
func (f *Filter) outdated() []mail.Finding {
	v := f.version.Load()
	if !f.isLate(v) {
		return nil
	}
	return []mail.Finding{{
		Name: FindingOutdated, Value: v.Made.UTC().Format(time.DateOnly), Text: fmt.Sprintf("signatures are %d days old, %s", int(time.Since(v.Made).Hours()/24), v.Text),
	}}
}

func (f *Filter) askVersion(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var v Version
	err := f.backends.Do(ctx, func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "zVERSION\x00"); err != nil {
			return err
		}
		reply, err := readReply(conn)
		if err == nil {
			v, err = parseVersion(string(reply))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: version: %w", name, err)
	}
	f.version.Store(&v)
	if f.cfg.Stats != nil {
		f.cfg.Stats.Signatures(f.cfg.Name, v.Text, v.Made)
	}
	return nil
}

// versionLine is "ClamAV 1.4.3/27431/Wed Nov 19 08:41:15 2025", or the first
// part alone while there is no daily database.
var versionLine = regexp.MustCompile(`^(ClamAV [0-9A-Za-z.+~-]{1,40}(?:/[0-9]{1,10})?)(?:/([A-Za-z]{3} [A-Za-z]{3} [ 0-9][0-9] [0-9:]{8} [0-9]{4}))?$`)

func parseVersion(reply string) (Version, error) {
	line, ok := strings.CutSuffix(reply, "\x00")
	m := versionLine.FindStringSubmatch(line)
	if !ok || m == nil {
		return Version{}, fmt.Errorf("reply %.200q", reply)
	}
	v := Version{Text: m[1]}
	if m[2] == "" {
		return v, nil
	}
	var err error
	v.Made, err = time.ParseInLocation(time.ANSIC, m[2], time.Local) // as ctime(3) has it on that host
	return v, err
}
