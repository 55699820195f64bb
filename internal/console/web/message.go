package web

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

func messagePage() page {
	return page{
		path: "/message/{id}", title: "Message", needs: console.ViewMail, file: "message.html",
		load: (*Server).message,
	}
}

// messageView is one message with its life.
type messageView struct {
	ID      string
	Last    history.Record // the decision that stands
	Earlier []history.Record
	Bars    []bar
	Scale   time.Duration // the length of the longest line of Bars
	Events  []history.Event
	Queued  []console.Message // what of it is still kept
	Header  string
	Content bool // its text may be looked at, and is still there
	Unknown []history.Gap
}

func (s *Server) message(r *http.Request) (any, error) {
	v := messageView{ID: r.PathValue("id")}
	life, err := s.api.History().Life(r.Context(), v.ID)
	if err != nil && !errors.Is(err, history.ErrNotFound) {
		return nil, err
	}
	kept, errKept := s.api.Show(r.Context(), v.ID)
	if errKept == nil {
		v.Queued = append(v.Queued, kept)
		v.Content = console.IdentityOf(r.Context()).May(console.ViewContent)
	} else if !errors.Is(errKept, spool.ErrNotFound) {
		return nil, errKept
	}
	if len(life.Records) == 0 {
		if errKept != nil {
			return nil, &console.Refusal{Text: "Nothing is known of this message. It may be too long ago, or not one that you may see.", Status: http.StatusNotFound}
		}
		return v, nil // a notification of our own, or one from before the history
	}
	v.Last, v.Earlier = life.Records[len(life.Records)-1], life.Records[:len(life.Records)-1]
	v.Events = life.Events
	v.Bars, v.Scale = waterfall(v.Last.Asked)
	v.Header = string(v.Last.Header)
	v.Unknown = v.Last.Unknown()
	return v, nil
}

// bar is one line of the waterfall, in thousandths of its width.
type bar struct {
	history.Asked
	At, Width int
}

// waterfall lays out when each filter was asked, and for how long. What is
// before the message is left out: clients take their time between commands.
func waterfall(asked []history.Asked) (bars []bar, scale time.Duration) {
	atEnd := slices.DeleteFunc(slices.Clone(asked), func(a history.Asked) bool { return a.Stage != mail.StageMessage.String() })
	if len(atEnd) == 0 {
		return nil, 0
	}
	first, last := atEnd[0].Start, atEnd[0].Start
	for _, a := range atEnd {
		first, last = min(first, a.Start), max(last, a.Start+a.Took)
	}
	scale = max(last-first, time.Microsecond)
	for _, a := range atEnd {
		width := max(thousandths(a.Took, scale), narrowest)
		bars = append(bars, bar{a, min(thousandths(a.Start-first, scale), 1000-width), width})
	}
	return bars, scale
}

// narrowest is a bar that can still be seen.
const narrowest = 3

func thousandths(part, of time.Duration) int { return int(1000 * float64(part) / float64(of)) }

// clientText is the address of a client without its port.
func clientText(a netip.AddrPort) string {
	if !a.IsValid() {
		return "local"
	}
	return a.Addr().Unmap().String()
}
