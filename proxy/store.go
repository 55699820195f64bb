package proxy

import (
	"context"
	"io"

	"gatepost/proxy/spool"
)

// store is what a session needs of the spool, and draft of its drafts: tests
// put other ones in their place.
type store interface {
	Ready() error
	Draft(id string) draft
	Commit(ctx context.Context, d draft, entries ...spool.Entry) error
}

type draft interface {
	io.Writer
	io.ReaderAt
	Size() int64
	Discard()
}

type spoolStore struct{ *spool.Spool }

func (s spoolStore) Draft(id string) draft { return s.Spool.Draft(id) }

func (s spoolStore) Commit(ctx context.Context, d draft, entries ...spool.Entry) error {
	return s.Spool.Commit(ctx, d.(*spool.Draft), entries...)
}
