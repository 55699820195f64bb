package history

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// Report implements Finder.
func (r *Reader) Report(ctx context.Context, since, until time.Time, top int) (Report, error) {
	out := Report{Since: since, Until: until, Hours: []Bucket{}, Attempts: make(map[string]int)}
	err := r.hours(ctx, since, until, &out)
	if err == nil {
		err = r.attempts(ctx, since, until, &out)
	}
	for _, list := range []struct {
		kind byte
		to   *[]Named
	}{
		{keySender, &out.Senders}, {keyRcpt, &out.Recipients}, {keyClient, &out.Clients}, {keyVirus, &out.Viruses}, {keyRule, &out.Rules},
	} {
		if *list.to = []Named{}; err == nil && top > 0 {
			*list.to, err = r.top(ctx, list.kind, since, until, top)
		}
	}
	if err != nil {
		return out, fmt.Errorf("history: report: %w", err)
	}
	return out, nil
}

func (r *Reader) hours(ctx context.Context, since, until time.Time, out *Report) error {
	const hour = int64(time.Hour / time.Microsecond)
	rows, err := r.db.QueryContext(ctx, "SELECT seq / ? AS hour, stage, action, count(*), sum(size) FROM message WHERE seq >= ? AND seq < ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
		hour, micros(since), micros(until))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b Bucket
		var at int64
		var stage mail.Stage
		var action mail.Action
		if err := rows.Scan(&at, &stage, &action, &b.Count, &b.Bytes); err != nil {
			return err
		}
		b.Hour, b.Stage, b.Action = time.UnixMicro(at*hour).UTC(), stage.String(), action.String()
		out.Hours = append(out.Hours, b)
	}
	return rows.Err()
}

func (r *Reader) attempts(ctx context.Context, since, until time.Time, out *Report) error {
	rows, err := r.db.QueryContext(ctx, "SELECT status, count(*) FROM event WHERE seq >= ? AND seq < ? AND what = ? GROUP BY 1",
		micros(since), micros(until), string(mail.EventAttempt))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var status sql.NullString
		var n int
		if err := rows.Scan(&status, &n); err != nil {
			return err
		}
		out.Attempts[status.String] = n
	}
	return rows.Err()
}

func (r *Reader) top(ctx context.Context, kind byte, since, until time.Time, n int) ([]Named, error) {
	rows, err := r.db.QueryContext(ctx, "SELECT key, count(*) FROM tag WHERE key >= ? AND key < ? AND seq >= ? AND seq < ? GROUP BY key ORDER BY 2 DESC, 1 LIMIT ?",
		[]byte{kind}, []byte{kind + 1}, micros(since), micros(until), n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []Named{}
	for rows.Next() {
		var key []byte
		var one Named
		if err := rows.Scan(&key, &one.Count); err != nil {
			return nil, err
		}
		one.Name = string(key[1:])
		if kind == keyClient {
			a, _ := netip.AddrFromSlice(key[1:])
			one.Name = a.Unmap().String()
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
