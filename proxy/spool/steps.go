package spool

import "slices"

// Every step at which a process may die or a system call may fail. The two logs
// share the names of their journal: journalStep puts the log's name before them.
const (
	stepDraftCreate  = "spool.draft.create"
	stepDraftWrite   = "spool.draft.write"
	stepLargeSync    = "spool.large.sync"
	stepLargeDirSync = "spool.large.dirsync"
	stepLargeUnlink  = "spool.large.unlink"
	stepLargeKeep    = "spool.large.keep" // to be written again
	stepRead         = "spool.read"
	stepContentTorn  = "spool.content.torn" // half of the batch is written
	stepContentWake  = "spool.content.wake" // durable, nobody knows yet
	stepCompactRead  = "spool.compact.read"
	stepCompactMove  = "spool.compact.move"
	stepCleanMove    = "spool.clean.move"

	journalCreate   = "create"
	journalAllocate = "allocate"
	journalMark     = "mark"
	journalMarkSync = "marksync"
	journalRename   = "rename" // a spare becomes a segment
	journalDirSync  = "dirsync"
	journalWrite    = "write"
	journalSync     = "sync"
	journalCut      = "cut" // a failed write is taken back
	journalRetire   = "retire"
)

var journalSteps = [...]string{
	journalCreate, journalAllocate, journalMark, journalMarkSync, journalRename,
	journalDirSync, journalWrite, journalSync, journalCut, journalRetire,
}

func journalStep(log, step string) string { return "spool." + log + "." + step }

// Steps lists the names that Options.Failpoint is called with.
func Steps() []string {
	steps := []string{
		stepDraftCreate, stepDraftWrite, stepLargeSync, stepLargeDirSync, stepLargeUnlink, stepLargeKeep,
		stepRead, stepContentTorn, stepContentWake, stepCompactRead, stepCompactMove, stepCleanMove,
	}
	for _, s := range journalSteps {
		steps = append(steps, journalStep(contentName, s))
		if s != journalRename { // progress keeps no spares
			steps = append(steps, journalStep(progressName, s))
		}
	}
	slices.Sort(steps)
	return steps
}

// step is where a test steps in.
func (s *Spool) step(name string) error {
	if s.opts.Failpoint == nil {
		return nil
	}
	return s.opts.Failpoint(name)
}
