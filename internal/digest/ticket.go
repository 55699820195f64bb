package digest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Action is what a link is for.
type Action string

// The actions.
const (
	Release Action = "release"
	Delete  Action = "delete"
	Allow   Action = "allow"
	Block   Action = "block"
	List    Action = "list" // shows all that is held; no message is named
)

// ticket is what a link is good for: one action with one message, for one
// recipient, up to a time.
type ticket struct {
	action Action
	id     string // of the message; "" for List
	rcpt   mail.Address
	until  time.Time
}

var (
	errBadTicket = errors.New("digest: no link of ours")
	errOldTicket = errors.New("digest: the link has ended")
)

// purpose keeps the keys from signing anything that could be taken for something
// else.
const purpose = "gatepost digest link 1\n"

// maxTicket is longer than any link with the longest address.
const maxTicket = 1500

func (k *keys) sign(t ticket, now time.Time) (string, error) {
	with, err := k.current(now)
	if err != nil {
		return "", err
	}
	text := strings.Join([]string{with.id, string(t.action), t.id, strconv.FormatInt(t.until.Unix(), 36), t.rcpt.String()}, " ")
	return base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + base64.RawURLEncoding.EncodeToString(with.mac(text)), nil
}

func (k key) mac(text string) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(purpose + text))
	return h.Sum(nil)
}

// open returns what a link is good for. Of one that has ended both are
// returned: whoever has it may hear what it was for.
func (k *keys) open(s string, now time.Time) (ticket, error) {
	left, right, ok := strings.Cut(s, ".")
	if !ok || len(s) > maxTicket {
		return ticket{}, errBadTicket
	}
	text, err1 := base64.RawURLEncoding.Strict().DecodeString(left)
	mac, err2 := base64.RawURLEncoding.Strict().DecodeString(right)
	words := strings.SplitN(string(text), " ", 5)
	if err1 != nil || err2 != nil || len(words) != 5 {
		return ticket{}, errBadTicket
	}
	with, err := k.find(words[0])
	if err != nil {
		return ticket{}, err
	}
	if !hmac.Equal(mac, with.mac(string(text))) {
		return ticket{}, errBadTicket
	}
	until, err := strconv.ParseInt(words[3], 36, 64)
	if err != nil {
		return ticket{}, errBadTicket
	}
	rcpt, err := mail.ParseAddress(words[4], true)
	if err != nil {
		return ticket{}, errBadTicket
	}
	t := ticket{Action(words[1]), words[2], rcpt, time.Unix(until, 0)}
	if now.After(t.until) {
		return t, errOldTicket
	}
	return t, nil
}

// used is the key of a link in the store of those that were used.
func used(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "digest " + hex.EncodeToString(sum[:])
}
