package history

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// condition is one that an index knows: records that have one of the keys, or
// a key from one up to another, in one of several ranges.
type condition struct {
	keys   [][]byte
	ranges [][2][]byte // where there are no keys
	words  string      // of the subject, where there is neither
}

func (c condition) sql() (text string, args []any) {
	switch {
	case c.words != "":
		return "SELECT rowid AS seq FROM words WHERE words MATCH ?", []any{c.words}
	case len(c.keys) > 0:
		for _, k := range c.keys {
			args = append(args, k)
		}
		return "SELECT seq FROM tag WHERE key IN (?" + strings.Repeat(", ?", len(c.keys)-1) + ")", args
	}
	for _, r := range c.ranges {
		args = append(args, r[0], r[1])
	}
	return "SELECT seq FROM tag WHERE (key >= ? AND key < ?" + strings.Repeat(" OR key >= ? AND key < ?", len(c.ranges)-1) + ")", args
}

// seqs finds the numbers of records, in the order that q wants.
func (r *Reader) seqs(ctx context.Context, q Query, limit int) ([]int64, error) {
	text, args, err := r.plan(ctx, q, limit)
	if err != nil {
		return nil, err
	}
	rows, err := r.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("history: search: %w", err)
	}
	defer rows.Close()
	var all []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, fmt.Errorf("history: search: %w", err)
		}
		all = append(all, seq)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("history: search: %w", err)
	}
	return all, nil
}

// plan writes the statement: the condition that fewest records meet is walked
// along, and the others are asked of each of those.
func (r *Reader) plan(ctx context.Context, q Query, limit int) (text string, args []any, err error) {
	conditions, err := q.conditions()
	if err != nil {
		return "", nil, err
	}
	from, to, err := q.bounds()
	if err != nil {
		return "", nil, err
	}
	where := []string{"m.seq >= ?", "m.seq < ?"}
	args = []any{from, to}
	if q.Action != "" {
		where, args = append(where, "m.action = ?"), append(args, int(actionOf(q.Action)))
	}
	if q.Stage != "" {
		where, args = append(where, "m.stage = ?"), append(args, int(stageOf(q.Stage)))
	}
	if q.Subject != "" && utf8.RuneCountInString(q.Subject) < leastWords {
		where, args = append(where, `m.subject LIKE ? ESCAPE '\'`), append(args, "%"+likely(q.Subject)+"%")
	}
	fewest, err := r.fewest(ctx, conditions, from, to)
	if err != nil {
		return "", nil, err
	}
	for i, c := range conditions {
		inner, more := c.sql()
		if i == fewest {
			where = append(where, "m.seq IN ("+inner+" AND "+c.column()+" >= ? AND "+c.column()+" < ?)")
			more = append(more, from, to)
		} else {
			where = append(where, "EXISTS ("+inner+" AND "+c.column()+" = m.seq)")
		}
		args = append(args, more...)
	}
	order := "ASC"
	if q.Descending {
		order = "DESC"
	}
	return "SELECT m.seq FROM message m WHERE " + strings.Join(where, " AND ") + " ORDER BY m.seq " + order + " LIMIT ?", append(args, limit), nil
}

// column is the number of the record in the condition's table.
func (c condition) column() string {
	if c.words != "" {
		return "words.rowid"
	}
	return "tag.seq"
}

// countUpTo is enough to tell few from many.
const countUpTo = 3000

// fewest is the condition that fewest records meet.
func (r *Reader) fewest(ctx context.Context, conditions []condition, from, to int64) (best int, err error) {
	if len(conditions) < 2 {
		return 0, nil
	}
	least := math.MaxInt
	for i, c := range conditions {
		inner, args := c.sql()
		n := 0
		text := "SELECT count(*) FROM (" + inner + " AND " + c.column() + " >= ? AND " + c.column() + " < ? LIMIT ?)"
		if err := r.db.QueryRowContext(ctx, text, append(args, from, to, countUpTo)...).Scan(&n); err != nil {
			return 0, fmt.Errorf("history: search: %w", err)
		}
		if n < least {
			best, least = i, n
		}
	}
	return best, nil
}

// bounds are the numbers between which q looks.
func (q Query) bounds() (from, to int64, err error) {
	from, to = math.MinInt64, math.MaxInt64
	if !q.Since.IsZero() {
		from = micros(q.Since)
	}
	if !q.Until.IsZero() {
		to = micros(q.Until)
	}
	if q.After == "" {
		return from, to, nil
	}
	seq, err := readCursor(q.After)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: after %q: not from a page", ErrQuery, q.After)
	}
	if q.Descending {
		return from, min(to, seq), nil
	}
	return max(from, seq+1), to, nil
}

// leastWords is the length below which the index of subjects is no help.
const leastWords = 3

// likely escapes what LIKE takes for a pattern.
func likely(s string) string { return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(s) }

// conditions are what the indexes can find.
func (q Query) conditions() ([]condition, error) {
	var all []condition
	add := func(keys ...[]byte) { all = append(all, condition{keys: keys}) }
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if q.From != "" {
		all = append(all, addressCondition(q.From, keySender, keySenderDomain, keyAuthor, keyAuthorDomain)...)
	}
	if q.To != "" {
		all = append(all, addressCondition(q.To, keyRcpt, keyRcptDomain, 0, 0)...)
	}
	if q.Domain != "" {
		all = append(all, nameCondition(q.Domain, keySenderDomain, keyAuthorDomain, keyRcptDomain))
	}
	if q.MessageID != "" {
		add(messageIDKey(q.MessageID))
	}
	if q.Client.IsValid() {
		all = append(all, clientCondition(q.Client))
	}
	if q.Rule != "" {
		add(makeKey(keyRule, q.Rule))
	}
	if q.Virus != "" {
		add(makeKey(keyVirus, q.Virus))
	}
	if q.SHA256 != "" {
		key, _ := hashKey(q.SHA256) // it was validated
		add(key)
	}
	if q.Host != "" {
		all = append(all, nameCondition(q.Host, keyHost))
	}
	if utf8.RuneCountInString(q.Subject) >= leastWords {
		all = append(all, condition{words: `"` + strings.ReplaceAll(q.Subject, `"`, `""`) + `"`})
	}
	return all, nil
}

// addressCondition looks for an address, or a domain where it begins with "@".
func addressCondition(s string, kind, domainKind, other, otherDomain byte) []condition {
	if domain, ok := strings.CutPrefix(s, "@"); ok {
		kinds := []byte{domainKind}
		if otherDomain != 0 {
			kinds = append(kinds, otherDomain)
		}
		return []condition{nameCondition(domain, kinds...)}
	}
	keys := [][]byte{addressKey(kind, s)}
	if other != 0 {
		keys = append(keys, addressKey(other, s))
	}
	return []condition{{keys: keys}}
}

// nameCondition looks for a domain, in several places; of ".domain" for all
// below it.
func nameCondition(name string, kinds ...byte) condition {
	var c condition
	below, isBelow := strings.CutPrefix(name, ".")
	for _, k := range kinds {
		if isBelow {
			c.ranges = append(c.ranges, [2][]byte{append(nameKey(k, below), '.'), append(nameKey(k, below), '.'+1)})
		} else {
			c.keys = append(c.keys, nameKey(k, name))
		}
	}
	return c
}

func clientCondition(p netip.Prefix) condition {
	p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()
	if p.IsSingleIP() {
		return condition{keys: [][]byte{clientKey(p.Addr())}}
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	last := p.Addr().As16()
	for i := bits; i < 128; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	to := append(append([]byte{keyClient}, last[:]...), 0) // just behind the last
	return condition{ranges: [][2][]byte{{clientKey(p.Addr()), to}}}
}

// Validate refuses what finds nothing for a mistake in it.
func (q Query) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrQuery, fmt.Sprintf(format, args...))
	}
	if q.SHA256 != "" {
		if _, ok := hashKey(q.SHA256); !ok {
			return bad("hash %q: want 64 hexadecimal digits", q.SHA256)
		}
	}
	if q.Action != "" && actionOf(q.Action).String() != q.Action {
		return bad("action %q: want continue, accept, discard, quarantine, tempfail or reject", q.Action)
	}
	if q.Stage != "" && stageOf(q.Stage).String() != q.Stage {
		return bad("stage %q: want connect, helo, mail, rcpt, data or message", q.Stage)
	}
	for _, name := range []string{q.Domain, q.Host} {
		if name == "" {
			continue
		}
		if _, err := mail.ParseDomain(strings.TrimPrefix(name, ".")); err != nil {
			return bad("%q: %v", name, err)
		}
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return bad("since is not before until")
	}
	return nil
}
