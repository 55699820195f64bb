package policy

import (
	"io"
	"time"

	"gatepost/internal/mail"
)

// Config says which files there are, and what they may ask.
type Config struct {
	// Files are paths or patterns of them ("/etc/gatepost/rules.d/*.toml"),
	// read in this order, those of one pattern by their names. A pattern may
	// match none.
	Files []string
	// Dynamic has what rules put on lists while the gateway runs; nil: nothing.
	Dynamic Dynamic
	// Now is the time for entries that expire; zero: when it is read.
	Now time.Time
	// Open opens rule files and lists; nil: os.Open. With it Files are paths, and
	// no patterns.
	Open func(path string) (io.ReadCloser, error)
	// Managed is the folder of the lists with managed = true, whose entries
	// commands add; "": they have none.
	Managed string
	// Inspect takes the messages of test cases apart; nil: a case says itself
	// what is in its message.
	Inspect func(*mail.Message) *mail.Inside
}

// Dynamic knows the entries of dynamic lists. It is asked while a client waits:
// no I/O.
type Dynamic interface {
	Has(list, key string) bool
}

// DynamicList is a list that rules add to.
type DynamicList struct {
	Name  string
	Max   int      // entries; more are not taken
	Never []string // lists whose members are never put on it
}

// Limits of what rule files may have. They stand far above what people write.
const (
	maxFile    = 4 << 20   // bytes of a rule file
	maxFiles   = 1000      // rule files
	maxRules   = 20_000    // in all files
	maxList    = 512 << 20 // bytes of a list file
	maxExpr    = 16 << 10  // bytes of an expression
	maxNodes   = 2000      // of an expression's tree
	maxNesting = 3         // any(parts, any(urls, ...)): one in the other
	maxRegexp  = 4000      // instructions that a regular expression compiles to
	maxDynamic = 100_000   // entries of a dynamic list
)

// Budget is how much work one message may be for all rules together, and for
// all its recipients. A unit is a byte that a regular expression reads; a step
// through a list counts as 64, a rule as 256.
const Budget = 64 << 20

const (
	stepCost = 64
	ruleCost = 256
)
