package console

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// ShapeRequest says which messages are counted, and how.
type ShapeRequest struct {
	Filter Filter `json:"filter,omitzero"`
	Sender bool   `json:"sender,omitempty"` // by the sender's domain; else by those of recipients
	Top    int    `json:"top,omitempty"`    // so many domains; 0: all
}

// Shape is how old the mail of each domain is, as Postfix' qshape counts it:
// recipients that wait, or with ShapeRequest.Sender messages.
type Shape struct {
	By string `json:"by"` // recipient or sender
	// Minutes are the ages below which the columns count; the last column has
	// what is older.
	Minutes []int         `json:"minutes"`
	Total   DomainShape   `json:"total"`
	Domains []DomainShape `json:"domains"` // the fullest first
	Others  int           `json:"others"`  // at most so many domains are left out
}

// DomainShape is one line of a Shape.
type DomainShape struct {
	Domain string `json:"domain,omitempty"` // "" for the null sender and the total
	Total  int    `json:"total"`
	Ages   []int  `json:"ages"`
}

// shapeMinutes are qshape's.
var shapeMinutes = [...]int{5, 10, 20, 40, 80, 160, 320, 640, 1280}

type ages [len(shapeMinutes) + 1]uint32

func (a *ages) add(age time.Duration) {
	i := 0
	for i < len(shapeMinutes) && age >= time.Duration(shapeMinutes[i])*time.Minute {
		i++
	}
	a[i]++
}

func (a *ages) shape(domain string) DomainShape {
	s := DomainShape{Domain: domain, Ages: make([]int, len(a))}
	for i, n := range a {
		s.Ages[i] = int(n)
		s.Total += int(n)
	}
	return s
}

// mostDomains bounds what is remembered: forged senders may be many.
const mostDomains = 100_000

// MeasureShape counts the messages of a queue.
func MeasureShape(q Queue, req ShapeRequest, now time.Time) (Shape, error) {
	if err := req.Filter.Validate(); err != nil {
		return Shape{}, err
	}
	var total ages
	domains := make(map[string]*ages)
	left := 0 // recipients whose domain there was no room for
	count := func(address string, age time.Duration) {
		total.add(age)
		domain := address[strings.LastIndexByte(address, '@')+1:]
		d := domains[domain]
		if d == nil && len(domains) == mostDomains {
			left++
			return
		}
		if d == nil {
			d = new(ages)
			domains[strings.Clone(domain)] = d
		}
		d.add(age)
	}
	for m := range q.List(req.Filter) {
		age := now.Sub(time.Unix(m.Arrival, 0))
		if req.Sender {
			count(m.Sender, age)
			continue
		}
		for _, r := range m.Recipients {
			count(r.Address, age)
		}
	}
	s := Shape{By: "recipient", Minutes: shapeMinutes[:], Total: total.shape(""), Domains: []DomainShape{}, Others: left}
	if req.Sender {
		s.By = "sender"
	}
	for domain, d := range domains {
		s.Domains = append(s.Domains, d.shape(domain))
	}
	slices.SortFunc(s.Domains, func(a, b DomainShape) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Domain, b.Domain))
	})
	if req.Top > 0 && len(s.Domains) > req.Top {
		s.Others += len(s.Domains) - req.Top
		s.Domains = s.Domains[:req.Top]
	}
	return s, nil
}
