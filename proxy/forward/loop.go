package forward

import "gatepost/internal/mail"

// guardLoop stops a message that has come through this host again and again.
// It is the last fence: the same message is refused when it comes in once more,
// where no notification goes to a forged sender.
func guardLoop(content mail.Content, hostname string) *failure {
	m, err := mail.ReadMessage(content, content.Size())
	if err != nil {
		return nil // who sends it will tell
	}
	if m.Header.Passes(hostname) > mail.MaxPasses {
		return undeliverable(554, "4.6", "the message has come through %s more than %d times: this is a loop", hostname, mail.MaxPasses)
	}
	return nil
}
