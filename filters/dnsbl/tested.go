package dnsbl

import (
	"context"
	"sync"
)

// Tested is what the test points of a list told.
type Tested struct {
	List string
	Why  string // what is wrong with it; "": nothing
	Err  error  // nobody could tell
}

// Test looks at the test points of all lists now, for an operator. What is known
// of the lists stays as it is.
func (f *Filter) Test(ctx context.Context) []Tested {
	all := make([]Tested, len(f.lists))
	var tests sync.WaitGroup
	for i, l := range f.lists {
		tests.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, testTime)
			defer cancel()
			why, err := l.test(ctx)
			all[i] = Tested{l.name, why, err}
		})
	}
	tests.Wait()
	return all
}
