package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/tomltext"
)

// Set is one generation of the rule files of a site. It never changes.
type Set struct {
	rules      []*rule
	at         map[mail.Stage][]*rule
	lists      map[string]*list
	cases      []*testCase
	generation string
	files      []string
	warnings   Problems
	now        time.Time
}

// loader reads a Set.
type loader struct {
	*report
	set      *Set
	cfg      Config
	now      time.Time
	sum      hash.Hash
	lists    map[string]*list
	compiler *compiler
	names    map[string]string // rules that were read: where
}

// Load reads all files. Its error is Problems: all that is wrong with them. The
// Set has no rules where there are no files.
func Load(cfg Config) (*Set, error) {
	l := &loader{
		report: &report{}, cfg: cfg, now: moment(cfg.Now), sum: newSum(), lists: make(map[string]*list), names: make(map[string]string),
		set: &Set{at: make(map[mail.Stage][]*rule)},
	}
	l.set.now = l.now
	var files []section
	for _, path := range l.paths() {
		if s, ok := l.file(path); ok {
			files = append(files, s)
		}
	}
	for _, s := range files { // lists first: rules of all files may name them
		s.only("rule", "list", "test")
		l.readLists(s)
	}
	l.checkNever()
	l.compiler = newCompiler(l.lists)
	for _, s := range files {
		for _, t := range s.tables("rule") {
			if len(l.set.rules) == maxRules {
				t.wrong("", fmt.Sprintf("is one of more than %d rules", maxRules), "use lists")
				break
			}
			l.set.rules = append(l.set.rules, l.rule(t))
		}
		for _, t := range s.tables("test") {
			l.set.cases = append(l.set.cases, l.testCase(t, nil))
		}
	}
	l.checkOrder()
	l.checkLists()
	if len(l.problems) == 0 {
		l.finish()
		l.set.runCases(l.report, cfg.Inspect)
	}
	if len(l.problems) > 0 {
		return nil, sorted(l.problems)
	}
	l.set.warnings = sorted(l.warnings)
	return l.set, nil
}

// finish makes the Set ready to judge.
func (l *loader) finish() {
	for _, r := range l.set.rules {
		l.set.at[r.stage] = append(l.set.at[r.stage], r)
	}
	l.set.lists = l.lists
	if len(l.set.files) > 0 {
		l.set.generation = hex.EncodeToString(l.sum.Sum(nil))[:16]
	}
}

// Files are the paths that patterns name, in the order in which they are read.
func Files(patterns []string) ([]string, error) {
	l := &loader{report: &report{}, cfg: Config{Files: patterns}}
	all := l.paths()
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return all, nil
}

// paths are the files that the patterns name, each once.
func (l *loader) paths() []string {
	var all []string
	for _, pattern := range l.cfg.Files {
		if l.cfg.Open != nil || !strings.ContainsAny(pattern, "*?[") {
			all = append(all, pattern)
			continue
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			l.problem(Problem{File: pattern, What: "is no pattern", Do: `write one such as "/etc/gatepost/rules.d/*.toml"`})
		}
		slices.Sort(found)
		all = append(all, found...)
	}
	var once []string
	for _, path := range all {
		if !slices.Contains(once, path) {
			once = append(once, path)
		}
	}
	if len(once) > maxFiles {
		l.problem(Problem{File: once[maxFiles], What: fmt.Sprintf("is one of more than %d rule files", maxFiles), Do: "join some"})
		once = once[:maxFiles]
	}
	return once
}

func (l *loader) open(path string) (io.ReadCloser, error) {
	if l.cfg.Open != nil {
		return l.cfg.Open(path)
	}
	return os.Open(path)
}

func (l *loader) file(path string) (section, bool) {
	f, err := l.open(path)
	if err != nil {
		l.problem(Problem{File: path, What: "can't be read: " + reason(err), Do: "the gateway's user must be able to read it"})
		return section{}, false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		l.problem(Problem{File: path, What: "can't be read: " + reason(err), Do: "is it a file?"})
		return section{}, false
	case len(text) > maxFile:
		l.problem(Problem{File: path, What: fmt.Sprintf("is larger than %d MB", maxFile>>20), Do: "put values into lists"})
		return section{}, false
	}
	fmt.Fprintf(l.sum, "%s\n%d\n%s", path, len(text), text)
	l.set.files = append(l.set.files, path)
	return parse(path, string(text), l.report)
}

var listSectionKeys = []string{"type", "file", "entries", "dynamic", "managed", "max", "never", "note"}

// readLists reads the sections [list.NAME] of a file.
func (l *loader) readLists(s section) {
	outer, ok := s.table("list")
	if !ok {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(outer.values)) {
		t, ok := outer.table(name)
		if !ok {
			continue
		}
		t.of = fmt.Sprintf("list %q", name)
		if strings.TrimLeft(name, nameRunes) != "" || name == "" || len(name) > 64 {
			t.wrong("", "is no name of a list", "write up to 64 letters, digits and .:_/-")
		}
		if other := l.lists[name]; other != nil {
			t.wrong("", "there is another one of that name at "+other.where, "give it another name")
			continue
		}
		l.lists[name] = l.list(t, name)
	}
}

// list reads a section. One that is wrong is there nevertheless, so that rules
// that name it are not wrong, too.
func (l *loader) list(t section, name string) *list {
	t.only(listSectionKeys...)
	kind, _ := t.text1("type")
	if !slices.Contains(listTypes, kind) {
		if kind == "" {
			t.wrong("type", "is missing", "write one of "+strings.Join(listTypes, ", "))
		} else {
			t.wrong("type", fmt.Sprintf("%q is no type of a list", clip(kind)), tomltext.DidYouMean(kind, listTypes))
		}
	}
	made := newList(name, ListType(kind))
	made.where, made.files = t.line(), []string{t.path}
	if !slices.Contains(listTypes, kind) {
		return made
	}
	for i, entry := range t.texts("entries") {
		at := spot{0, uint32(t.place(t.node("entries").Item(i)).Line)}
		if at.line == 0 {
			at = t.spot("entries")
		}
		l.inline(t, made, entry, at)
	}
	for _, path := range t.texts("file") {
		made.readFile(t.beside(path), l.now, l.sum, l.report, l.open)
	}
	l.readDynamic(t, made)
	l.readManaged(t, made)
	if !t.has("entries") && !t.has("file") && made.dynamic == nil && !made.managed {
		t.wrong("", "has nothing in it", "write entries, file, dynamic = true, or managed = true")
	}
	return made
}

// inline adds an entry of the section itself, with what is said of it.
func (l *loader) inline(t section, made *list, line string, at spot) {
	entry, more := splitEntry(line)
	where := Problem{File: t.path, Position: at.position(), Key: joinKey(t.of, "entries")}
	expired := 0
	if more != "" && !made.annotate(at, more, l.now, where, &expired, l.report) {
		return
	}
	if entry == "" {
		return
	}
	if err := made.add(entry, at); err != nil {
		where.What, where.Do, _ = strings.Cut(err.Error(), "; ")
		l.problem(where)
	}
}

func (l *loader) readDynamic(t section, made *list) {
	if !t.flag("dynamic") {
		for _, key := range []string{"max", "never"} {
			if t.has(key) {
				t.wrong(key, "is of dynamic lists only", "write dynamic = true, or remove it")
			}
		}
		return
	}
	d := &DynamicList{Name: made.name, Max: 10_000, Never: t.texts("never")}
	if made.kind == ListRegexp {
		t.wrong("dynamic", "regular expressions are not put on lists by rules", "use another type")
	}
	if n, ok := t.number("max"); ok {
		if d.Max = int(n); n < 1 || n > maxDynamic || n != float64(d.Max) {
			t.wrong("max", fmt.Sprintf("is not between 1 and %d", maxDynamic), "write how many entries there may be at most")
		}
	}
	made.dynamic, made.source = d, l.cfg.Dynamic
}

// readManaged reads the entries that commands have added. As long as there are
// none, there is no file.
func (l *loader) readManaged(t section, made *list) {
	if !t.flag("managed") {
		return
	}
	if t.has("entries") || t.has("file") || made.dynamic != nil {
		t.wrong("managed", "is of lists whose entries all come from commands", "give the others a list of their own")
	}
	made.managed = true
	if l.cfg.Managed == "" {
		return
	}
	path := ManagedFile(l.cfg.Managed, made.name)
	f, err := l.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		f.Close()
		made.readFile(path, l.now, l.sum, l.report, l.open)
		return
	}
	l.problem(Problem{File: path, What: "can't be read: " + reason(err), Do: "the gateway's user must be able to read it"})
}

// ManagedFile is the file of a list with managed = true. Names of lists may have
// slashes.
func ManagedFile(dir, list string) string {
	return filepath.Join(dir, url.PathEscape(list)+".list")
}

// checkNever looks for the lists of friends.
func (l *loader) checkNever() {
	for _, name := range slices.Sorted(maps.Keys(l.lists)) {
		made := l.lists[name]
		if made.dynamic == nil {
			continue
		}
		for _, friend := range made.dynamic.Never {
			other := l.lists[friend]
			switch {
			case other == nil:
				l.problem(Problem{File: made.files[0], Position: made.position(), Key: fmt.Sprintf("list %q: never", name), What: fmt.Sprintf("there is no list %q", clip(friend)), Do: tomltext.DidYouMean(friend, l.listNames())})
			case other.dynamic != nil:
				l.problem(Problem{File: made.files[0], Position: made.position(), Key: fmt.Sprintf("list %q: never", name), What: fmt.Sprintf("the list %q is dynamic, too", friend), Do: "friends are written down by people"})
			default:
				other.used = true
			}
		}
	}
}

// position is that of the section.
func (l *list) position() tomltext.Position {
	var p tomltext.Position
	fmt.Sscanf(l.where[strings.LastIndexByte(l.where, ':')+1:], "%d", &p.Line)
	return p
}

func (l *loader) listNames() []string { return slices.Sorted(maps.Keys(l.lists)) }

// checkLists warns of lists that nobody asks.
func (l *loader) checkLists() {
	for _, name := range l.listNames() {
		if made := l.lists[name]; !made.used {
			l.warn(Problem{File: made.files[0], Position: made.position(), Key: fmt.Sprintf("list %q", name), What: "no rule asks it", Do: "remove it, or use it"})
		}
	}
}

// checkOrder finds rules that are never reached, and those that are there
// twice.
func (l *loader) checkOrder() {
	final := make(map[mail.Stage]*rule)
	seen := make(map[string]*rule)
	for _, r := range l.set.rules {
		if f := final[r.stage]; f != nil {
			r.from.wrong("", fmt.Sprintf("is never reached: the rule %q at %s is for all mail, and final", f.name, f.where), "move it before that rule, or give that one a condition")
			continue
		}
		if r.final && (r.bare || r.whenText == "true" && len(r.shared)+len(r.own) == 1) && !r.observe && r.until.IsZero() && r.since.IsZero() {
			final[r.stage] = r
		}
		key := r.conditions()
		if other := seen[key]; other != nil && !r.bare {
			if other.effectsText() == r.effectsText() {
				r.from.wrong("", fmt.Sprintf("is the same as the rule %q at %s", other.name, other.where), "remove one of the two")
			} else if other.final && !other.observe && other.until.IsZero() && other.since.IsZero() {
				r.from.wrong("", fmt.Sprintf("is never reached: the rule %q at %s has the same conditions, and is final", other.name, other.where), "join the two")
			} else {
				r.from.strange("", fmt.Sprintf("has the same conditions as the rule %q at %s", other.name, other.where), "join the two")
			}
			continue
		}
		seen[key] = r
	}
}

// conditions is the text of a rule's conditions, to compare.
func (r *rule) conditions() string {
	key := r.stage.String() + "\x00" + r.whenText
	for _, name := range []string{"from", "to", "client", "time", "what"} {
		key += fmt.Sprintf("\x00%v", r.from.values[name])
	}
	return key
}

// effectsText is the text of what a rule does, to compare.
func (r *rule) effectsText() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.from.values)) {
		switch key {
		case "name", "when", "from", "to", "client", "time", "what", "note", "ticket", "test", "stage":
		default:
			fmt.Fprintf(&b, "%s=%v\x00", key, r.from.values[key])
		}
	}
	return b.String()
}
