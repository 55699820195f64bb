package milter

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

const (
	codeProgress    = 'p' // SMFIR_PROGRESS
	codeAddRcptArgs = '2' // SMFIR_ADDRCPT_PAR
)

// replies reports whether the MTA waits for an answer at a stage.
func (s *session) replies(stage mail.Stage) bool {
	return s.agreed.Protocol&noReply[stage] == 0
}

// answer sends the verdict of an envelope stage, unless the MTA was told with
// the bit quiet not to wait for one. What can't be said now, because nobody
// waits or because the MTA would forget it (a quarantine; a discard at CONNECT,
// which Postfix ignores), is said at the end of each message.
func (s *session) answer(stage mail.Stage, quiet milter.OptProtocol, v mail.Verdict) error {
	silent := s.agreed.Protocol&quiet != 0
	early := stage == mail.StageConnect || stage == mail.StageHelo
	if v.Action == mail.Quarantine || v.Action > mail.Accept && (silent || early && v.Action == mail.Discard) {
		if s.msg == nil {
			s.sticky = strongest(s.sticky, v)
		} else {
			s.msg.sticky = strongest(s.msg.sticky, v)
		}
	}
	if silent {
		return nil
	}
	if stage < mail.StageMessage { // or it is about one field, or a piece of the body
		s.count(stage, v)
	}
	switch v.Action {
	case mail.Discard:
		if early {
			break
		}
		s.out = wire.Append(s.out[:0], byte(milter.ActDiscard))
		return s.flush()
	case mail.TempFail, mail.Reject:
		s.out = appendReply(s.out[:0], v)
		return s.flush()
	}
	s.out = wire.Append(s.out[:0], byte(milter.ActContinue))
	return s.flush()
}

// appendReply adds SMFIR_REPLYCODE, or SMFIR_REJECT and SMFIR_TEMPFAIL where
// the verdict has no words of its own. Each % is doubled: both MTAs take the
// text for a format.
func appendReply(b []byte, v mail.Verdict) []byte {
	if v.Reply.IsZero() {
		code := milter.ActReject
		if v.Action == mail.TempFail {
			code = milter.ActTempFail
		}
		return wire.Append(b, byte(code))
	}
	text := strings.TrimSuffix(string(v.Reply.Wire()), "\r\n")
	return wire.AppendText(b, byte(milter.ActReplyCode), strings.ReplaceAll(text, "%", "%%"))
}

// finish tells the MTA what becomes of the message: its edits, then the end.
func (s *session) finish(v mail.Verdict) error {
	s.count(mail.StageMessage, v)
	switch v.Action {
	case mail.Reject, mail.TempFail:
		s.out = appendReply(s.out[:0], v)
		return s.flush()
	case mail.Discard:
		s.out = wire.Append(s.out[:0], byte(milter.ActDiscard))
		return s.flush()
	}
	// Our ID goes in after the verdict, so that what is stripped from outside
	// is never ours.
	own := mail.InsertHeader{At: 0, Field: mail.NewField("X-Gatepost-ID", s.msg.tx.ID)}
	if err := s.edits(append([]mail.Edit{own}, v.Edits...)); err != nil {
		return err
	}
	if v.Action == mail.Quarantine {
		s.out = wire.AppendText(s.out, byte(milter.ActQuarantine), mail.CleanText(v.Reason))
	}
	s.out = wire.Append(s.out, byte(milter.ActContinue))
	return s.flush()
}

// edits sends the changes in the MTA's terms.
func (s *session) edits(edits []mail.Edit) error {
	dialect := dialectOf(s.value("v"))
	if s.agreed.Actions&milter.OptChangeHeader == 0 {
		dialect = postfix // who may take no field away can't move one
	}
	for _, c := range headerCommands(s.msg.tx.Message.Header, edits, dialect) {
		if !s.granted(c.needs, "header field "+c.name) {
			continue
		}
		value := c.value
		if s.agreed.Protocol&milter.OptHeaderLeadingSpace == 0 {
			value = strings.TrimPrefix(value, " ") // the MTA adds it
		}
		h := wire.Header{Index: c.index, Name: c.name, Value: value}
		if c.code == byte(milter.ActAddHeader) {
			s.out = h.Append(s.out, c.code)
		} else {
			s.out = h.AppendIndexed(s.out, c.code)
		}
	}
	var body *mail.ReplaceBody
	var added []mail.Path
	for _, e := range edits {
		switch e := e.(type) {
		case mail.ChangeSender:
			if s.granted(milter.OptChangeFrom, "sender") {
				s.out = wire.Envelope{Address: e.Sender.Path(), Args: joined(e.Sender.Args)}.Append(s.out, byte(milter.ActChangeFrom))
			}
		case mail.AddRecipient:
			added = append(added, e.Recipient)
		case mail.DeleteRecipient:
			added = slices.DeleteFunc(added, func(p mail.Path) bool { return p.Address == e.Recipient })
			if as, known := s.msg.asked[e.Recipient]; known && s.granted(milter.OptRemoveRcpt, "recipient") {
				s.out = wire.AppendText(s.out, byte(milter.ActDelRcpt), as)
			}
		case mail.ReplaceBody:
			body = &e
		}
	}
	for _, p := range added {
		s.addRecipient(p)
	}
	if body == nil {
		return nil
	}
	// Only the last one, and behind all others: an MTA takes two bodies for
	// parts of one, and Postfix breaks off when something stands between parts.
	return s.replaceBody(*body)
}

func (s *session) addRecipient(p mail.Path) {
	if len(p.Args) > 0 && s.agreed.Actions&milter.OptAddRcptWithArgs != 0 {
		s.out = wire.Envelope{Address: p.Path(), Args: joined(p.Args)}.Append(s.out, codeAddRcptArgs)
	} else if s.granted(milter.OptAddRcpt, "recipient") {
		s.out = wire.AppendText(s.out, byte(milter.ActAddRcpt), p.Path())
	}
}

// joined makes one string of ESMTP arguments, as CHGFROM and ADDRCPT_PAR want.
func joined(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	return []string{strings.Join(args, " ")}
}

// replaceBody sends the new body in chunks, each as it is read. Postfix allows
// no other edit between two of them.
func (s *session) replaceBody(e mail.ReplaceBody) error {
	if !s.granted(milter.OptChangeBody, "body") {
		return nil
	}
	r := io.NewSectionReader(e.Body, 0, e.Size)
	chunk := make([]byte, min(e.Size, wire.MaxBody))
	for {
		n, err := io.ReadFull(r, chunk)
		if n > 0 || e.Size == 0 {
			s.out = wire.Append(s.out, byte(milter.ActReplBody), chunk[:n])
			if err := s.flush(); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF || e.Size == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the new body: %w", err)
		}
	}
}

// granted reports whether the MTA allowed that kind of change.
func (s *session) granted(need milter.OptAction, what string) bool {
	if s.agreed.Actions&need != 0 {
		return true
	}
	s.srv.deps.Log.Warn("the MTA doesn't allow this change", "id", s.msg.tx.ID, "change", what, "listener", s.srv.cfg.Name)
	return false
}

const maxLogged = 20 // recipients and findings in one line

// log writes the decision line.
func (s *session) log(v mail.Verdict, held int) {
	tx := s.msg.tx
	s.srv.deps.Stats.Message(s.srv.cfg.Name, v.Action.String(), "policy", s.size())
	var to, rules []string
	for _, r := range tx.Envelope.Recipients[:min(len(tx.Envelope.Recipients), maxLogged)] {
		to = append(to, r.String())
	}
	for _, f := range tx.Findings[:min(len(tx.Findings), maxLogged)] {
		rules = append(rules, f.Filter+"/"+f.Name+"="+f.Value)
	}
	s.srv.deps.Log.Info("message", "id", tx.ID, "qid", s.value("i"), "listener", s.srv.cfg.Name, "client", clientOf(tx.Session), "helo", tx.Session.Helo,
		"from", tx.Envelope.Sender.String(), "to", strings.Join(to, ","), "nrcpt", len(tx.Envelope.Recipients), "size", s.size(),
		"action", v.Action.String(), "score", tx.Score(), "rules", strings.Join(rules, ","), "reason", v.Reason, "reply", v.Reply.String(), "held", held, "took", time.Since(tx.Start))
}

func clientOf(s *mail.Session) string {
	name := s.Name
	if name == "" {
		name = "unknown"
	}
	if !s.Client.IsValid() {
		return name
	}
	return name + "[" + s.Client.Addr().String() + "]"
}

// fieldValue is what stands behind the colon, folded with LF as the protocol
// wants it, without the line end.
func fieldValue(f mail.Field) string {
	raw := f.Raw()
	v := raw[bytes.IndexByte(raw, ':')+1:]
	return strings.ReplaceAll(strings.TrimSuffix(string(v), "\r\n"), "\r\n", "\n")
}
