package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// Lesson is what spamd is told of a message.
type Lesson string

// The lessons.
const (
	Spam   Lesson = "spam"   // learn it as spam
	Ham    Lesson = "ham"    // learn it as wanted
	Forget Lesson = "forget" // as if it had never been learned
	Report Lesson = "report" // learn it as spam, and report it to the public lists that spamd is set up for
	Revoke Lesson = "revoke" // learn it as wanted, and take the report back
)

// Lessons are all of them.
func Lessons() []Lesson { return []Lesson{Spam, Ham, Forget, Report, Revoke} }

// header is what TELL says (spamd's PROTOCOL, "TELL").
func (l Lesson) header() string {
	switch l {
	case Spam:
		return "Message-class: spam\r\nSet: local\r\n"
	case Ham:
		return "Message-class: ham\r\nSet: local\r\n"
	case Forget:
		return "Remove: local\r\n"
	case Report:
		return "Message-class: spam\r\nSet: local, remote\r\n"
	case Revoke:
		return "Message-class: ham\r\nSet: local\r\nRemove: remote\r\n"
	}
	return ""
}

// ErrTooLarge is that a message is above max_size: what is not judged whole is
// not learned either.
var ErrTooLarge = errors.New("larger than max_size")

// ErrNotAllowed is that spamd takes no lessons.
var ErrNotAllowed = errors.New("spamd takes no lessons; start it with --allow-tell")

// Learn tells spamd what a message is, for the Bayes data of that user; "": those
// of Config.User when it is a name, or of spamd's own. It reports whether spamd
// learned something; when not, it knew it already or could not write, and only
// its log tells which.
func (f *Filter) Learn(ctx context.Context, lesson Lesson, user string, m *mail.Message) (news bool, err error) {
	if user == "" && !f.cfg.byRecipient() {
		user = f.cfg.User
	}
	switch {
	case !slices.Contains(Lessons(), lesson):
		return false, fmt.Errorf("%s: learn: %q is no lesson", name, string(lesson))
	case user != "" && !goodUser.MatchString(user) && !goodAddress.MatchString(user):
		return false, fmt.Errorf("%s: learn: %q is no user", name, user)
	case m.Size() > f.cfg.MaxSize:
		return false, fmt.Errorf("%s: learn: %d bytes are %w", name, m.Size(), ErrTooLarge)
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	err = f.backends.Do(ctx, func(conn net.Conn) (err error) {
		news, err = tell(conn, lesson, user, m)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("%s: learn: %w", name, err)
	}
	return news, nil
}

// tell makes the exchange. The library's own panics at such replies.
func tell(conn net.Conn, lesson Lesson, user string, m *mail.Message) (news bool, err error) {
	request := "TELL SPAMC/1.5\r\n" + lesson.header() + "Content-length: " + strconv.FormatInt(m.Size(), 10) + "\r\n"
	if user != "" {
		request += "User: " + user + "\r\n"
	}
	if _, err := io.Copy(conn, io.MultiReader(strings.NewReader(request+"\r\n"), m.Reader())); err != nil {
		// It may have said no before it read everything.
		if reply, rerr := readTold(conn); rerr == nil {
			if _, err := told(reply); err != nil {
				return false, err
			}
		}
		return false, fmt.Errorf("send: %w", err)
	}
	reply, err := readTold(conn)
	if err != nil {
		return false, err
	}
	return told(reply)
}

// readTold reads a whole reply within its limit.
func readTold(conn net.Conn) ([]byte, error) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // an error of it is one of reading, too
	}
	reply, err := io.ReadAll(io.LimitReader(conn, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read reply: %w", err)
	case len(reply) == 0:
		return nil, errors.New("spamd hung up without a reply")
	case len(reply) > maxReply:
		return nil, fmt.Errorf("reply larger than %d bytes", maxReply)
	}
	return reply, nil
}

// told reports whether something was learned or forgotten. Without DidSet or
// DidRemove spamd knew it already, or could not write its data: it doesn't say
// which.
func told(reply []byte) (news bool, err error) {
	head, _, whole := strings.Cut(string(reply), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	status := statusLine.FindStringSubmatch(lines[0])
	switch {
	case status == nil || !whole && status[1] == "0":
		return false, fmt.Errorf("reply %.200q", lines[0])
	case status[1] != "0" && strings.Contains(status[2], "allow-tell"):
		return false, ErrNotAllowed
	case status[1] != "0":
		return false, fmt.Errorf("spamd says %.200q", status[1]+" "+status[2])
	}
	for _, line := range lines[1:] {
		f := headerLine.FindStringSubmatch(line)
		if f == nil {
			return false, fmt.Errorf("reply with a bad header %.200q", line)
		}
		if strings.EqualFold(f[1], "DidSet") || strings.EqualFold(f[1], "DidRemove") {
			news = true
		}
	}
	return news, nil
}
