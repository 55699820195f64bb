package backscatter

import (
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
)

// report is what is read of a delivery status notification (RFC 3464).
type report struct {
	header   []field  // of the bounce
	mta      string   // Reporting-MTA, as it stands there
	actions  []string // of the recipients, in lower case
	returned []field  // header of the message that came back; nil for none
}

var (
	errNoReport   = errors.New("not a delivery report")
	errNoReturned = errors.New("no returned message in it")
)

// parseReport reads as much of a bounce as it takes to have the returned header.
func parseReport(r io.Reader) (report, error) {
	l := newLines(r)
	var rep report
	var err error
	if rep.header, err = l.header(); err != nil {
		return report{}, err
	}
	kind, params, err := mime.ParseMediaType(get(rep.header, "Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return report{}, errNoReport
	}
	if kind != "multipart/report" || !strings.EqualFold(params["report-type"], "delivery-status") || params["boundary"] == "" {
		return report{}, errNoReport
	}
	l.delim = "--" + params["boundary"]
	for {
		more, err := l.skip()
		if err != nil {
			return report{}, err
		}
		if !more {
			return rep, errNoReturned
		}
		if done, err := rep.part(l); done || err != nil {
			return rep, err
		}
	}
}

// skip reads to the beginning of the next part.
func (l *lines) skip() (bool, error) {
	for {
		line, err := l.next()
		if err != nil {
			return false, ended(err)
		}
		if yes, last := l.delimits(line); yes {
			return !last, nil
		}
	}
}

// part reads one part. The first that is a returned message ends the work: what
// stands behind it may have been written by whoever sent that message.
func (rep *report) part(l *lines) (done bool, err error) {
	header, err := l.header()
	if err != nil {
		return false, err
	}
	kind, _, err := mime.ParseMediaType(get(header, "Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false, nil
	}
	switch kind {
	case "message/delivery-status", "message/global-delivery-status":
		return false, rep.status(l)
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers":
		rep.returned, err = l.returned(get(header, "Content-Transfer-Encoding"))
		if err == nil && len(rep.returned) == 0 {
			err = errNoReturned
		}
		return true, err
	}
	return false, nil
}

// status reads the groups of fields of RFC 3464 2.1.
func (rep *report) status(l *lines) error {
	for {
		line, err := l.next()
		if err != nil {
			return ended(err)
		}
		if yes, _ := l.delimits(line); yes {
			l.back(line)
			return nil
		}
		f, ok := parseField(line)
		switch {
		case !ok || line[0] == ' ' || line[0] == '\t':
		case f.is("Reporting-MTA") && rep.mta == "":
			rep.mta = f.value
		case f.is("Action") && len(rep.actions) < maxFields:
			rep.actions = append(rep.actions, strings.ToLower(f.value))
		}
	}
}

// returned reads the header of the message that came back, encoded or not.
func (l *lines) returned(encoding string) ([]field, error) {
	var decode func(io.Reader) io.Reader
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		decode = func(r io.Reader) io.Reader { return quotedprintable.NewReader(r) }
	case "base64":
		decode = func(r io.Reader) io.Reader { return base64.NewDecoder(base64.StdEncoding, r) }
	default:
		return l.header()
	}
	raw, err := l.partText()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(decode(strings.NewReader(raw)))
	if err != nil && len(text) == 0 {
		return nil, errNoReturned
	}
	return newLines(strings.NewReader(string(text))).header()
}

// partText is a part as it stands there, cut where nothing of use can follow.
func (l *lines) partText() (string, error) {
	var b strings.Builder
	for b.Len() < maxDecoded {
		line, err := l.next()
		if err != nil {
			return b.String(), ended(err)
		}
		if yes, _ := l.delimits(line); yes {
			break
		}
		b.WriteString(line + "\n")
	}
	return b.String(), nil
}
