package milter

import "gatepost/internal/mail"

// Stats counts what MTAs are told.
type Stats interface {
	// Connection counts a connection of an MTA: "accepted" or "limit".
	Connection(listener, result string)
	// Active changes the number of open connections.
	Active(listener string, delta int)
	// Message counts an answered message by the name of its action; the reason is
	// "policy".
	Message(listener, action, reason string, size int64)
	// Recipient counts the answer to a recipient that the MTA waits for.
	Recipient(listener, action string)
	// MilterReply counts an answer that the MTA waits for.
	MilterReply(milter, stage, reply string)
}

type nobody struct{}

func (nobody) Connection(string, string)             {}
func (nobody) Active(string, int)                    {}
func (nobody) Message(string, string, string, int64) {}
func (nobody) Recipient(string, string)              {}
func (nobody) MilterReply(string, string, string)    {}

// count notes an answer to the MTA.
func (s *session) count(stage mail.Stage, v mail.Verdict) {
	stats, name := s.srv.deps.Stats, s.srv.cfg.Name
	stats.MilterReply(name, stage.String(), v.Action.String())
	if stage == mail.StageRcpt {
		stats.Recipient(name, v.Action.String())
	}
}
