package history

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Query chooses records; what is set must hold.
type Query struct {
	Since      time.Time    `json:"since,omitzero"`
	Until      time.Time    `json:"until,omitzero"` // before it
	From       string       `json:"from,omitempty"` // sender: an address, "@domain" or "<>"
	To         string       `json:"to,omitempty"`   // a recipient: an address or "@domain"
	Domain     string       `json:"domain,omitempty"`
	Subject    string       `json:"subject,omitempty"` // part of it, in any case
	MessageID  string       `json:"message_id,omitempty"`
	Client     netip.Prefix `json:"client,omitzero"`
	Action     string       `json:"action,omitempty"`
	Stage      string       `json:"stage,omitempty"`
	Rule       string       `json:"rule,omitempty"`
	Virus      string       `json:"virus,omitempty"`
	SHA256     string       `json:"sha256,omitempty"` // of a part
	Host       string       `json:"host,omitempty"`   // of a URL
	Descending bool         `json:"descending,omitempty"`
	After      string       `json:"after,omitempty"` // Page.Next of the page before
	Limit      int          `json:"limit,omitempty"` // 0: 50
}

// Page is one page of what a Query finds.
type Page struct {
	Records []Record `json:"records"`
	Next    string   `json:"next,omitempty"` // "": there is no more
}

// Bucket counts what was decided in one hour.
type Bucket struct {
	Hour   time.Time `json:"hour"`
	Stage  string    `json:"stage"`
	Action string    `json:"action"`
	Count  int       `json:"count"`
	Bytes  int64     `json:"bytes"`
}

// Named counts what has a name.
type Named struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// Report is a summary of a time.
type Report struct {
	Since      time.Time      `json:"since"`
	Until      time.Time      `json:"until"`
	Hours      []Bucket       `json:"hours"`
	Attempts   map[string]int `json:"attempts"` // deliveries by their result
	Senders    []Named        `json:"senders"`
	Recipients []Named        `json:"recipients"`
	Clients    []Named        `json:"clients"`
	Viruses    []Named        `json:"viruses"`
	Rules      []Named        `json:"rules"`
}

// ErrNotFound is the error of an ID that nothing is known of.
var ErrNotFound = errors.New("nothing is known of it")

// Finder is who searches: a Reader, or one in another process.
type Finder interface {
	// Life returns all that is known of a message, by its ID or that of one
	// that it was split into; else ErrNotFound.
	Life(ctx context.Context, id string) (Life, error)
	// Search returns one page.
	Search(ctx context.Context, q Query) (Page, error)
	// Each calls yield with all records that q chooses, in order, until that
	// returns an error. Paging is not looked at.
	Each(ctx context.Context, q Query, yield func(Record) error) error
	// Report sums up; with top 0 it only counts by hours and results.
	Report(ctx context.Context, since, until time.Time, top int) (Report, error)
}

// ErrQuery is the error of a Query that can't be meant.
var ErrQuery = errors.New("a search that can't be meant")
