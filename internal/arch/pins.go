//go:build pins

// Package arch keeps the project's own rules as tests.
package arch

// Libraries that the product is built on and that a later part is the first to
// use: named here so that go.mod pins the versions that were examined.
import (
	_ "github.com/emersion/go-msgauth/authres"
	_ "golang.org/x/sync/errgroup"
)
