package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/vm"

	"gatepost/internal/mail"
)

// Run is the rules at one stage of one transaction. It belongs to one goroutine.
type Run struct {
	set    *Set
	tx     *mail.Transaction
	rules  []*rule
	env    Env
	vm     vm.VM
	now    time.Time
	left   int
	cur    *program
	shared []tri // what the shared conditions of each rule gave
	names  map[string]string
	hits   []entryHit // of the rule that is asked
	found  [][]entryHit
}

// tri is the answer to a question that may not have been asked yet.
type tri struct {
	known, yes bool
	err        error
}

// Begin asks nothing yet. score is that of all findings.
func (s *Set) Begin(tx *mail.Transaction, score float64) *Run {
	r := &Run{set: s, tx: tx, rules: s.at[tx.Stage], now: moment(tx.Start), left: Budget}
	r.shared = make([]tri, len(r.rules))
	r.found = make([][]entryHit, len(r.rules))
	r.fill()
	r.env.Score = score
	return r
}

// Result is what the rules make of one recipient.
type Result struct {
	Score  float64     // added to that of the findings
	Action mail.Action // the strongest; Continue: none
	Waived bool        // some rule accepts: the score does not matter
	Reply  mail.Reply  // with TempFail and Reject; zero: a default
	Reason string
	Flag   bool   // tag = { flag = true }
	Failed string // why a rule could not tell; "" where all could
	Hits   []mail.RuleHit
	// Changes names the rules that change the message or its recipients, by
	// their order: where it is the same, so is what is sent.
	Changes string

	acting []*rule
}

// For asks the rules about a recipient; the zero Address is none.
func (r *Run) For(rcpt mail.Address) Result {
	var res Result
	before := r.env.Score
	defer func() { r.env.Score = before }()
	r.env.Rcpt = mailboxOf(rcpt)
	for i, rule := range r.rules {
		if !rule.active(r.now) {
			continue
		}
		yes, err := r.ask(i, rule)
		switch {
		case err != nil:
			res.fail(rule, rcpt, err)
		case !yes:
		default:
			r.act(&res, rule, rcpt, i)
			if rule.final && !rule.observe {
				return res
			}
		}
	}
	return res
}

// ask reports whether all conditions hold.
func (r *Run) ask(i int, rule *rule) (bool, error) {
	r.hits = nil
	if !r.shared[i].known {
		yes, err := r.all(rule.shared)
		r.shared[i], r.found[i] = tri{true, yes, err}, r.hits
	}
	if s := r.shared[i]; s.err != nil || !s.yes {
		return false, s.err
	}
	r.hits = slices.Clone(r.found[i])
	return r.all(rule.own)
}

// all asks conditions until one does not hold. What can't tell is not asked
// where another says no.
func (r *Run) all(conditions []condition) (yes bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			yes, err = false, fmt.Errorf("%v", p)
		}
	}()
	for _, c := range conditions {
		if yes, err := c.holds(r); err != nil || !yes {
			return false, err
		}
	}
	return true, nil
}

func (res *Result) fail(rule *rule, rcpt mail.Address, err error) {
	why := skipped + err.Error()
	res.Hits = append(res.Hits, mail.RuleHit{Rule: rule.name, Where: rule.where, Did: why, Observe: rule.observe, Rcpt: rcpt})
	if !rule.observe && res.Failed == "" {
		res.Failed = fmt.Sprintf("rule %s (%s) could not be asked: %v", rule.name, rule.where, err)
	}
}

// act notes what a rule that holds does.
func (r *Run) act(res *Result, rule *rule, rcpt mail.Address, i int) {
	d := &rule.does
	res.Hits = append(res.Hits, mail.RuleHit{Rule: rule.name, Where: rule.where, Did: d.words, Observe: rule.observe, Rcpt: rcpt})
	for _, h := range r.hits {
		if h.list.name != "" {
			res.Hits = append(res.Hits, mail.RuleHit{Rule: "list:" + h.list.name + ": " + h.key, Where: h.where(), Did: "listed", Observe: rule.observe, Rcpt: rcpt})
		}
	}
	if rule.observe {
		return
	}
	res.Score += d.score
	r.env.Score += d.score
	res.Flag = res.Flag || d.flag
	if d.action == mail.Accept {
		res.Waived = true
	}
	if d.action > res.Action {
		res.Action, res.Reply = d.action, d.reply
		res.Reason = "rule " + rule.name + " (" + rule.where + ")"
	}
	if d.changesBytes() {
		res.Changes += fmt.Sprintf("%d ", i)
		if !d.redirect.IsNull() {
			res.Changes += rcpt.String() + " "
		}
	}
	res.acting = append(res.acting, rule)
}

// holds runs a compiled condition.
func (p *program) holds(r *Run) (bool, error) {
	v, err := r.run(p)
	if err != nil {
		return false, err
	}
	yes, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the condition gave %T", v)
	}
	return yes, nil
}

var errNotSeen = errors.New("the message was not taken apart")

// run evaluates a program. Whatever goes wrong in it is an error.
func (r *Run) run(p *program) (any, error) {
	if p.inside && r.tx.Inside == nil {
		return nil, errNotSeen
	}
	if r.left <= 0 {
		return nil, errBudget
	}
	r.left -= ruleCost
	r.cur = p
	v, err := r.vm.Run(p.Program, &r.env)
	if err == nil {
		return v, nil
	}
	if r.left <= 0 {
		return nil, errBudget
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return nil, errors.New(mail.CleanText(text))
}

// charge takes from the budget of the message. It panics where that is used up:
// the interpreter, or guarded, makes an error of it.
func (r *Run) charge(n int) {
	if r.left -= n; r.left <= 0 {
		panic(errBudget)
	}
}

// match is matches.
func (r *Run) match(value, index any) bool {
	text, ok := value.(string)
	return ok && r.cur.matchers[index.(int)].match(text, r.charge)
}

// listed is in list("NAME").
func (r *Run) listed(value, index any) bool {
	l := r.cur.lists[index.(int)]
	switch v := value.(type) {
	case string:
		return v != "" && r.inList(l, v)
	case []string:
		return slices.ContainsFunc(v, func(s string) bool { return s != "" && r.inList(l, s) })
	}
	return false
}

func (r *Run) step() bool {
	r.charge(stepCost)
	return true
}

// inList looks for a value, and notes the entry.
func (r *Run) inList(l *list, value string) bool {
	hit, ok := l.find(value, r.now, r.charge)
	if ok && len(r.hits) < maxHits {
		r.hits = append(r.hits, hit)
	}
	return ok
}

// maxHits are the entries that a rule's record has.
const maxHits = 5

// skipped begins what is recorded of a rule that could not be asked.
const skipped = "skipped: "
