package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/expr-lang/expr"
	"golang.org/x/net/publicsuffix"

	"gatepost/internal/mail"
)

// function is one that needs nothing of a message.
type function struct {
	name, form, doc string
	call            func(...any) (any, error)
	types           []any
}

// functions are those beside the ones in Env. list is answered when an
// expression is compiled.
func functions() []function {
	return []function{
		{"list", `list("NAME")`, `a section [list.NAME]: sender.domain in list("partners")`, noList, []any{new(func(string) []string)}},
		{"cidr", `cidr(ADDRESS, "NETWORK")`, "whether an address is in a network", cidr, []any{new(func(string, string) bool)}},
		{"under", `under(DOMAIN, "example.com")`, "whether a domain is that one, or below it", under, []any{new(func(string, string) bool)}},
		{"org", `org(DOMAIN)`, "the registered domain that a domain is of: \"example.co.uk\" for \"a.b.example.co.uk\"", org, []any{new(func(string) string)}},
	}
}

// kept are the functions of expr-lang that conditions may use: those that can't
// make large things of small ones.
var kept = []struct{ name, form, doc string }{
	{"any", "any(LIST, CONDITION)", "whether one element meets it; in it, .name is a field of the element, # the element itself"},
	{"all", "all(LIST, CONDITION)", "whether all do, an empty list too"},
	{"none", "none(LIST, CONDITION)", "whether no element does"},
	{"one", "one(LIST, CONDITION)", "whether exactly one does"},
	{"count", "count(LIST, CONDITION)", "how many do"},
	{"filter", "filter(LIST, CONDITION)", "those that do"},
	{"len", "len(LIST or TEXT)", "how many elements or characters"},
	{"trim", "trim(TEXT)", "without the blanks around it"},
	{"trimPrefix", `trimPrefix(TEXT, "Re: ")`, "without that at its beginning"},
	{"trimSuffix", `trimSuffix(TEXT, ".")`, "without that at its end"},
	{"hasPrefix", `hasPrefix(TEXT, "a")`, "the same as TEXT startsWith \"a\""},
	{"hasSuffix", `hasSuffix(TEXT, "a")`, "the same as TEXT endsWith \"a\""},
	{"indexOf", `indexOf(TEXT, "a")`, "where it begins, -1 for nowhere"},
	{"abs", "abs(NUMBER)", "without its sign"},
	{"max", "max(A, B)", "the greater"},
	{"min", "min(A, B)", "the smaller"},
	{"int", "int(TEXT or NUMBER)", "a whole number"},
	{"float", "float(TEXT or NUMBER)", "a number"},
	{"string", "string(NUMBER)", "as a text"},
}

func options() []expr.Option {
	all := []expr.Option{expr.Env(&Env{}), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins()}
	for _, k := range kept {
		all = append(all, expr.EnableBuiltin(k.name))
	}
	for _, f := range functions() {
		all = append(all, expr.Function(f.name, f.call, f.types...))
	}
	return all
}

func noList(...any) (any, error) { return nil, fmt.Errorf("a list stands behind in") }

func cidr(args ...any) (any, error) {
	ip, err := netip.ParseAddr(args[0].(string))
	if err != nil {
		return false, nil // a client without an address is in no network
	}
	p, err := parsePrefix(args[1].(string))
	return err == nil && p.Contains(ip.Unmap().WithZone("")), err
}

func under(args ...any) (any, error) {
	domain, of := mail.ASCIIDomain(strings.ToLower(args[0].(string))), strings.TrimPrefix(strings.ToLower(args[1].(string)), ".")
	return domain == of || strings.HasSuffix(domain, "."+of), nil
}

func org(args ...any) (any, error) {
	domain := mail.ASCIIDomain(strings.ToLower(strings.TrimSuffix(args[0].(string), ".")))
	registered, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain, nil // a suffix itself, or no name at all
	}
	return registered, nil
}
