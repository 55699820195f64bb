package queue

import "slices"

// The steps at which a test may stop the process or make the step fail.
const (
	stepAttempt   = "queue.attempt"       // before the next hop is tried
	stepDelivered = "queue.delivered"     // after its answer, before the record of it
	stepSave      = "queue.save"          // before progress is saved
	stepSaved     = "queue.saved"         // after that
	stepReport    = "queue.dsn.commit"    // before a notification is committed
	stepReported  = "queue.dsn.committed" // it is durable; the original is still there
	stepRemove    = "queue.remove"        // before a finished message is removed
	stepRemoved   = "queue.removed"       // after that
	stepMove      = "queue.move"          // before a message goes to another lane
	stepBounce    = "queue.bounce"        // before an admin's end of a message is recorded
	stepBounced   = "queue.bounced"       // it is; the sender is not told yet
	stepAdmin     = "queue.admin"         // before retry, hold, release, move, delete changes the spool
)

var steps = []string{stepAttempt, stepDelivered, stepSave, stepSaved, stepReport, stepReported, stepRemove, stepRemoved,
	stepMove, stepBounce, stepBounced, stepAdmin}

// Steps returns the names of all steps that Deps.Failpoint is called with.
func Steps() []string { return slices.Clone(steps) }

func (q *Queue) step(name string) error {
	if q.failpoint == nil {
		return nil
	}
	return q.failpoint(name)
}
