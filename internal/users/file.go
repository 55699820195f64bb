package users

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// File is users in a file: a line each with name, argon2id hash, SCRAM
// credentials or "-", the senders that the user may be, separated by commas, or
// "-", and what the user is in the console: "ROLE" or "ROLE:domain,domain". Lines
// that begin with # are comments.
type File struct {
	path  string
	users map[string]user
	fake  user          // stands in for those who don't exist
	key   []byte        // of what is made up for them
	slots chan struct{} // one for each hash that is computed: each takes memory
}

type user struct {
	name    string
	hash    hash
	scram   *Credentials
	account Account
}

// Account is what else a file says of a user.
type Account struct {
	Senders []string // addresses and "@domain"s that the user may send from
	Role    string   // in the console; "" for none
	Domains []string // whose mail is seen there; none: as the role says
	// Stamp changes with the password; nil where it was not read for a login.
	Stamp []byte
}

const (
	maxFile = 64 << 20
	// hashesAtOnce bounds the memory for hashes.
	hashesAtOnce = 4
)

// OpenFile reads a file of users. Its error names every line that is wrong.
func OpenFile(path string) (*File, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	all, err := parseFile(path, text)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, users: make(map[string]user), slots: make(chan struct{}, hashesAtOnce)}
	for _, u := range all {
		f.users[u.name] = u
	}
	f.key = keyOf(text)
	f.fake.hash = newHash(string(f.key))
	return f, nil
}

// keyLine begins the comment with the key of what is made up for users who
// don't exist: it must be the same after a restart, or they would be known by it.
const keyLine = "#key "

func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

func keyOf(text string) []byte {
	for line := range strings.Lines(text) {
		if key, ok := strings.CutPrefix(strings.TrimSpace(line), keyLine); ok && len(key) >= 40 {
			return []byte(key)
		}
	}
	return []byte(newKey()) // a file that was written by hand
}

// readFile refuses a file that others may read: hashes can be guessed at home.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("users: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("users: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("users: %s may be read by everybody; chmod 640", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	if err != nil {
		return "", fmt.Errorf("users: %w", err)
	}
	return string(b), nil
}

func parseFile(path, text string) (all []user, err error) {
	lines := make(map[string]int)
	var errs []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || line[0] == '#' {
			continue
		}
		u, err := parseUser(f)
		if old := lines[u.name]; err == nil && old > 0 {
			err = fmt.Errorf("%s is already in line %d", u.name, old)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, n, err))
			continue
		}
		lines[u.name] = n
		all = append(all, u)
	}
	return all, errors.Join(errs...)
}

func parseUser(f []string) (u user, err error) {
	if len(f) < 2 || len(f) > 5 {
		return u, fmt.Errorf("%d columns; want name, hash, SCRAM or -, senders or -, role", len(f))
	}
	if err := checkName(f[0]); err != nil {
		return u, err
	}
	u.name = fold(f[0])
	if u.hash, err = parseHash(f[1]); err != nil {
		return u, fmt.Errorf("%s: %w", u.name, err)
	}
	if len(f) > 2 && f[2] != "-" {
		c, err := parseCredentials(f[2])
		if err != nil {
			return u, fmt.Errorf("%s: %w", u.name, err)
		}
		u.scram = &c
	}
	if len(f) > 3 && f[3] != "-" {
		u.account.Senders = strings.Split(f[3], ",")
	}
	if len(f) > 4 {
		role, domains, _ := strings.Cut(f[4], ":")
		u.account.Role = role
		if domains != "" {
			u.account.Domains = strings.Split(domains, ",")
		}
	}
	return u, u.account.check()
}

func (a Account) check() error {
	err := checkSenders(a.Senders)
	if strings.ContainsAny(a.Role, " \t:,#") {
		err = errors.Join(err, fmt.Errorf("%q is no role", a.Role))
	}
	for _, d := range a.Domains {
		if _, bad := mail.ParseDomain(strings.TrimPrefix(d, ".")); bad != nil {
			err = errors.Join(err, fmt.Errorf("%q is no domain", d))
		}
	}
	return err
}

// columns are those of the account in its line.
func (a Account) columns() string {
	senders := strings.Join(a.Senders, ",")
	if a.Role == "" {
		return senders
	}
	if senders == "" {
		senders = "-"
	}
	if len(a.Domains) > 0 {
		return senders + " " + a.Role + ":" + strings.Join(a.Domains, ",")
	}
	return senders + " " + a.Role
}

// fold: names are compared without regard to case, as those who type them do.
func fold(name string) string { return strings.ToLower(name) }

func checkName(name string) error {
	if name == "" || len(name) > maxUser || strings.ContainsAny(name, " \t,:#") || name != mail.CleanText(name) {
		return fmt.Errorf("%q is no name for a user", name)
	}
	return nil
}

func checkSenders(list []string) error {
	for _, s := range list {
		domain, whole := strings.CutPrefix(s, "@")
		err := error(nil)
		if whole {
			_, err = mail.ParseDomain(domain)
		} else {
			_, err = mail.ParseAddress(s, true)
		}
		if err != nil || s == "" {
			return fmt.Errorf("%q is no sender; want user@example.com or @example.com", s)
		}
	}
	return nil
}

// Verify is of Source.
func (f *File) Verify(ctx context.Context, l Login) (name string, ok bool, err error) {
	if !plausible(l) {
		return "", false, nil
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return "", false, errors.Join(errBusy, ctx.Err())
	}
	u, known := f.users[fold(l.User)]
	if !known {
		u = f.fake
	}
	return u.name, u.hash.fits(l.Password) && known, nil
}

// Scram is of ScramSource.
func (f *File) Scram(_ context.Context, name string) (string, Credentials, bool, error) {
	if u, ok := f.users[fold(name)]; ok && u.scram != nil {
		return u.name, *u.scram, true, nil
	}
	salt := mac(f.key, "salt "+fold(name))[:saltSize]
	return "", Credentials{scramIterations, salt, mac(f.key, "stored"), mac(f.key, "server")}, false, nil
}

// HasScram is of ScramSource.
func (f *File) HasScram() bool {
	for _, u := range f.users {
		if u.scram == nil {
			return false
		}
	}
	return len(f.users) > 0
}

// Senders is of SenderSource.
func (f *File) Senders(_ context.Context, name string) ([]string, error) {
	return f.users[fold(name)].account.Senders, nil
}

// Account is what the file says of a user.
func (f *File) Account(name string) Account {
	u := f.users[fold(name)]
	a := u.account
	if u.name != "" {
		a.Stamp = mac([]byte("stamp"), u.hash.String())
	}
	return a
}

// Names lists the users.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.users)) }

// Set writes a user into a file, in the place of the one of that name, and makes
// the file where there is none.
func Set(path, name, password string, a Account) error {
	if err := errors.Join(checkName(name), a.check()); err != nil {
		return err
	}
	if !plausible(Login{User: name, Password: password}) {
		return errors.New("users: the password is empty, too long, or has line ends")
	}
	scram, err := newCredentials(password)
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	line := strings.TrimRight(strings.Join([]string{fold(name), newHash(password).String(), scram.String(), a.columns()}, " "), " ")
	return edit(path, name, line+"\n")
}

// Remove takes a user out of a file.
func Remove(path, name string) error { return edit(path, name, "") }

// ErrUnknown is a user who is not there.
var ErrUnknown = errors.New("no such user")

// Names lists the users of a file.
func Names(path string) ([]string, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	all, err := parseFile(path, text)
	var names []string
	for _, u := range all {
		names = append(names, u.name)
	}
	slices.Sort(names)
	return names, err
}

// AccountOf returns what a file says of a user.
func AccountOf(path, name string) (Account, error) {
	text, err := readFile(path)
	if err != nil {
		return Account{}, err
	}
	all, err := parseFile(path, text)
	for _, u := range all {
		if u.name == fold(name) {
			return u.account, err
		}
	}
	return Account{}, errors.Join(err, fmt.Errorf("users: %s: %w", name, ErrUnknown))
}

// edit replaces a user's line, or adds it; "" removes it. The file is replaced
// whole, so that whoever reads it sees the old one or the new one.
func edit(path, name, line string) error {
	text, err := readFile(path)
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && line != "") {
		return err
	}
	var out bytes.Buffer
	if !strings.Contains("\n"+text, "\n"+keyLine) {
		out.WriteString(keyLine + newKey() + "\n")
	}
	found := false
	for old := range strings.Lines(text) {
		if f := strings.Fields(old); len(f) > 0 && old[0] != '#' && fold(f[0]) == fold(name) {
			found = true
			out.WriteString(line)
			line = ""
			continue
		}
		out.WriteString(strings.TrimRight(old, "\n") + "\n")
	}
	if line == "" && !found {
		return fmt.Errorf("users: %s: %w", name, ErrUnknown)
	}
	out.WriteString(line)
	if _, err := parseFile(path, out.String()); err != nil {
		return err
	}
	return replace(path, out.Bytes())
}

func replace(path string, text []byte) (err error) {
	mode := fs.FileMode(0o640)
	owner := func(*os.File) error { return nil }
	if info, err := os.Stat(path); err == nil {
		mode, owner = info.Mode().Perm(), sameOwner(info)
	} else if info, err := os.Stat(filepath.Dir(path)); err == nil {
		owner = sameGroup(info) // the gateway has to read it
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".users-*")
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("users: %w", err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), owner(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
