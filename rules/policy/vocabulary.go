package policy

import (
	"maps"
	"reflect"
	"slices"

	"gatepost/internal/mail"
)

// vocabulary is what Env and functions tell of themselves.
type vocabulary struct {
	byName map[string]word // "client", "client.ip"
	fields map[string][]string
}

type word struct {
	at     mail.Stage
	inside bool
}

// stages are those at which rules can stand.
var stages = map[string]mail.Stage{
	"connect": mail.StageConnect, "mail": mail.StageMail, "rcpt": mail.StageRcpt, "message": mail.StageMessage,
}

func stageWord(s mail.Stage) string { return s.String() }

func newVocabulary() *vocabulary {
	v := &vocabulary{byName: make(map[string]word), fields: make(map[string][]string)}
	v.read(reflect.TypeFor[Env](), "", mail.StageConnect)
	for _, k := range kept {
		v.fields[""] = append(v.fields[""], k.name)
	}
	for _, f := range functions() {
		v.fields[""] = append(v.fields[""], f.name)
	}
	return v
}

// read notes the fields of a type. prefix is the name that leads to them.
func (v *vocabulary) read(t reflect.Type, prefix string, at mail.Stage) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("expr")
		if f.Tag.Get("doc") == "" {
			continue
		}
		of := ""
		if prefix != "" {
			of = t.Name()
		}
		if !slices.Contains(v.fields[of], name) {
			v.fields[of] = append(v.fields[of], name)
		}
		w := word{at: max(at, stages[f.Tag.Get("at")]), inside: f.Tag.Get("inside") != ""}
		v.byName[prefix+name] = w
		if inner, isList, ok := structOf(f.Type); ok && isList {
			v.read(inner, prefix+name+"[].", w.at)
		} else if ok {
			v.read(inner, prefix+name+".", w.at)
		}
	}
}

// structOf is what lies in a word: a struct, or the elements of a list of them,
// which may be what a function gives.
func structOf(t reflect.Type) (of reflect.Type, isList, ok bool) {
	if t.Kind() == reflect.Func && t.NumOut() == 1 {
		t = t.Out(0)
	}
	if t.Kind() == reflect.Slice {
		t, isList = t.Elem(), true
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, isList, t.Kind() == reflect.Struct
}

// names are the fields of a type, or the names at the top.
func (v *vocabulary) names(of string) []string {
	names := slices.Clone(v.fields[of])
	slices.Sort(names)
	return names
}

// stageWords in their order.
func stageWords() []string {
	return slices.SortedFunc(maps.Keys(stages), func(a, b string) int { return int(stages[a] - stages[b]) })
}
