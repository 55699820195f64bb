package main

import (
	"context"
	"errors"
	"sync"
)

// errDraining is why a gateway that ends takes no mail.
var errDraining = errors.New("draining")

// service works until its context ends.
type service func(context.Context) error

// layer is services that end together.
type layer struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// start runs services until stop. One that ends before makes fail known.
func start(fail context.CancelCauseFunc, services ...service) *layer {
	ctx, cancel := context.WithCancel(context.Background())
	l := &layer{cancel: cancel}
	for _, run := range services {
		l.running.Go(func() {
			err := run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("a service ended by itself")
			}
			if err != nil {
				fail(err)
			}
		})
	}
	return l
}

// stop ends the services and waits for them.
func (l *layer) stop() {
	l.cancel()
	l.running.Wait()
}
