package policy

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"gatepost/internal/mail"
	"gatepost/internal/tomltext"
)

// program is a compiled condition.
type program struct {
	*vm.Program
	text     string
	matchers []*matcher
	lists    []*list
	perRcpt  bool // it may be other for another recipient
	inside   bool // it asks what is in the message
	reads    bool // it asks for its text
}

// fault is something wrong at a byte of an expression.
type fault struct {
	at       int
	what, do string
}

// compiler compiles the conditions of a set.
type compiler struct {
	words   *vocabulary
	lists   map[string]*list
	options []expr.Option
}

func newCompiler(lists map[string]*list) *compiler {
	return &compiler{words: newVocabulary(), lists: lists, options: options()}
}

// compile reads a condition for a stage. want is what it must give.
func (c *compiler) compile(text string, stage mail.Stage, want expr.Option) (*program, []fault) {
	if len(text) > maxExpr {
		return nil, []fault{{0, fmt.Sprintf("is longer than %d bytes", maxExpr), "put its values into a list"}}
	}
	if strings.TrimSpace(text) == "" {
		return nil, []fault{{0, "is empty", "remove it, or write a condition"}}
	}
	cfg := conf.CreateNew()
	cfg.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(text, cfg)
	if err != nil {
		return nil, []fault{c.explain(text, err)}
	}
	p := &program{text: text}
	look := &looker{c: c, p: p, stage: stage, text: text}
	ast.Walk(&tree.Node, look)
	look.loose()
	if len(look.faults) > 0 {
		return nil, look.faults
	}
	patch := &patcher{looker: look}
	p.Program, err = expr.Compile(text, append(c.options[:len(c.options):len(c.options)], want, expr.Patch(patch))...)
	switch {
	case err != nil:
		return nil, []fault{c.explain(text, err)}
	case len(look.faults) > 0:
		return nil, look.faults
	}
	return p, nil
}

// looker reads an expression before its types are known: what it uses, and what
// must not be in it.
type looker struct {
	c      *compiler
	p      *program
	stage  mail.Stage
	text   string
	faults []fault
	joined int
	called []*ast.CallNode        // list(…)
	inList map[*ast.CallNode]bool // of these, those behind in
}

func (l *looker) wrong(n ast.Node, what, do string) {
	l.faults = append(l.faults, fault{byteAt(l.text, n.Location().From), what, do})
}

func (l *looker) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		l.name(n, n.Value)
	case *ast.MemberNode:
		if of, ok := n.Node.(*ast.IdentifierNode); ok {
			if field, ok := n.Property.(*ast.StringNode); ok {
				l.stageOf(n, of.Value+"."+field.Value)
			}
		}
	case *ast.BinaryNode:
		l.binary(n)
	case *ast.BuiltinNode:
		if names := l.c.words.names(""); !slices.Contains(names, n.Name) {
			l.wrong(n, "unknown name "+n.Name, tomltext.DidYouMean(n.Name, names))
		}
	case *ast.CallNode:
		if f, ok := n.Callee.(*ast.IdentifierNode); ok {
			l.call(n, f.Value)
		}
	}
}

// loose refuses lists that stand anywhere but behind in.
func (l *looker) loose() {
	for _, call := range l.called {
		if !l.inList[call] {
			l.wrong(call, "a list can only stand behind in", `write sender.domain in list("NAME")`)
		}
	}
}

func (l *looker) name(n ast.Node, name string) {
	if strings.HasPrefix(name, "_") || name == "$env" {
		l.wrong(n, "unknown name "+name, "see the vocabulary")
		return
	}
	l.stageOf(n, name)
}

// stageOf notes what a word of the vocabulary needs.
func (l *looker) stageOf(n ast.Node, name string) {
	w, ok := l.c.words.byName[name]
	if !ok {
		return
	}
	if w.at > l.stage {
		l.wrong(n, fmt.Sprintf("%s is not known at stage %q", name, stageWord(l.stage)), fmt.Sprintf("the rule needs stage = %q or a later one", stageWord(w.at)))
	}
	l.p.inside = l.p.inside || w.inside
	l.p.reads = l.p.reads || name == "text"
	switch name { // findings may be about one recipient
	case "rcpt", "score", "found", "value", "findings":
		l.p.perRcpt = true
	}
}

func (l *looker) binary(n *ast.BinaryNode) {
	switch n.Operator {
	case "matches":
		text, ok := n.Right.(*ast.StringNode)
		if !ok {
			l.wrong(n.Right, "a regular expression must stand in the rule itself", "write it in quotes behind matches")
			return
		}
		m, err := newMatcher(text.Value)
		if err != nil {
			what, do, _ := strings.Cut(err.Error(), "; ")
			l.wrong(n.Right, what, do)
			return
		}
		l.p.matchers = append(l.p.matchers, m)
	case "..":
		l.wrong(n, "ranges are not understood", "write two comparisons")
	case "in":
		if call, ok := n.Right.(*ast.CallNode); ok {
			l.member(call)
		}
	}
}

// member checks list("NAME") behind in.
func (l *looker) member(call *ast.CallNode) {
	f, ok := call.Callee.(*ast.IdentifierNode)
	if !ok || f.Value != "list" {
		return
	}
	if l.inList == nil {
		l.inList = make(map[*ast.CallNode]bool)
	}
	l.inList[call] = true
	name, ok := listName(call)
	if !ok {
		return // the type check says it
	}
	found := l.c.lists[name]
	if found == nil {
		l.wrong(call.Arguments[0], fmt.Sprintf("there is no list %q", name), tomltext.DidYouMean(name, l.c.listNames()))
		return
	}
	found.used = true
}

func listName(call *ast.CallNode) (string, bool) {
	if len(call.Arguments) != 1 {
		return "", false
	}
	name, ok := call.Arguments[0].(*ast.StringNode)
	if !ok {
		return "", false
	}
	return name.Value, true
}

func (l *looker) call(n *ast.CallNode, name string) {
	switch {
	case name == "cidr" && len(n.Arguments) == 2:
		if network, ok := n.Arguments[1].(*ast.StringNode); ok {
			if _, err := parsePrefix(network.Value); err != nil {
				l.wrong(network, fmt.Sprintf("%q is no network", clip(network.Value)), "write one such as 192.0.2.0/24")
			}
		} else {
			l.wrong(n.Arguments[1], "a network must stand in the rule itself", "write it in quotes, or use a list of type cidr")
		}
	case name == "list":
		l.called = append(l.called, n)
		if _, ok := listName(n); !ok {
			l.wrong(n, "the name of a list must stand in the rule itself", `write list("NAME")`)
		}
	}
}

// patcher puts our functions in the place of what would not be bounded.
type patcher struct {
	*looker
	matched int
}

func (p *patcher) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		p.patchBinary(node, n)
	case *ast.BuiltinNode:
		for _, arg := range n.Arguments {
			if inner, ok := arg.(*ast.PredicateNode); ok {
				step := &ast.CallNode{Callee: &ast.IdentifierNode{Value: "_step"}}
				inner.Node = &ast.BinaryNode{Operator: "&&", Left: step, Right: inner.Node}
			}
		}
	}
}

func (p *patcher) patchBinary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "matches":
		p.replace(node, "_matches", n.Left, &ast.IntegerNode{Value: p.matched})
		p.matched++
	case "in":
		call, ok := n.Right.(*ast.CallNode)
		if !ok {
			return
		}
		f, ok := call.Callee.(*ast.IdentifierNode)
		if !ok || f.Value != "list" {
			return
		}
		name, _ := listName(call)
		if k := n.Left.Type(); k == nil || k.Kind() != reflect.String && !(k.Kind() == reflect.Slice && k.Elem().Kind() == reflect.String) {
			p.wrong(n, "only a text, or a list of texts, can be in a list", "write sender.domain in list(\"NAME\")")
			return
		}
		p.p.lists = append(p.p.lists, p.c.lists[name])
		p.replace(node, "_listed", n.Left, &ast.IntegerNode{Value: len(p.p.lists) - 1})
	case "+":
		if k := n.Type(); k != nil && k.Kind() == reflect.String {
			if p.joined++; p.joined == 5 {
				p.wrong(n, "joins too many texts", "compare them one by one")
			}
		}
	}
}

func (p *patcher) replace(node *ast.Node, name string, args ...ast.Node) {
	call := &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args}
	call.SetLocation((*node).Location())
	ast.Patch(node, call)
}

// byteAt is the byte of a rune.
func byteAt(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

var (
	unknownName  = regexp.MustCompile(`^unknown name (\S+)`)
	unknownField = regexp.MustCompile(`^type \*?policy\.(\w+) has no (?:field|method) (\S+)`)
	goTypes      = strings.NewReplacer("policy.", "", "float64", "number", "int", "number", "interface {}", "anything", "string", "text", "bool", "true or false")
)

// explain says in our words what expr found.
func (c *compiler) explain(text string, err error) fault {
	var e *file.Error
	if !errors.As(err, &e) {
		return fault{0, goTypes.Replace(err.Error()), ""}
	}
	f := fault{byteAt(text, e.From), e.Message, ""}
	if m := unknownName.FindStringSubmatch(e.Message); m != nil {
		f.do = tomltext.DidYouMean(m[1], c.words.names(""))
	} else if m := unknownField.FindStringSubmatch(e.Message); m != nil {
		f.what = fmt.Sprintf("%s has no %s", strings.ToLower(m[1]), m[2])
		f.do = tomltext.DidYouMean(m[2], c.words.names(m[1]))
	} else {
		f.what = goTypes.Replace(e.Message)
	}
	if !utf8.ValidString(f.what) {
		f.what = strings.ToValidUTF8(f.what, "?")
	}
	return f
}

func (c *compiler) listNames() []string {
	var names []string
	for name := range c.lists {
		names = append(names, name)
	}
	return names
}
