package rewrite

import (
	"errors"
	"fmt"

	"gatepost/internal/mail"
)

// domaintable is sendmail's: a recipient's domain that another one stands for,
// as it is written and none below it. sendmail puts it in the place of the first
// in the header, too; here a message stays as it was signed.
type domaintable map[string]string

func newDomaintable(file string, t table) (domaintable, error) {
	d := make(domaintable, len(t))
	var errs []error
	for name, e := range t {
		key, err := tableDomain(name)
		value := ""
		if err == nil {
			value, err = tableDomain(e.value)
		}
		switch {
		case err != nil:
		case key == value:
			err = fmt.Errorf("%s stands for itself; remove the line", name)
		case d[key] != "":
			err = fmt.Errorf("%s is there in another spelling; remove one of them", name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, e.line, err))
		}
		d[key] = value
	}
	return d, errors.Join(errs...)
}

func tableDomain(s string) (string, error) {
	name, err := mail.ParseDomain(s)
	if err == nil && name[0] == '[' {
		err = errors.New("an address literal")
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w; write two domains, like old.example new.example", mail.CleanText(s), err)
	}
	return mail.ASCIIDomain(name), nil
}

// apply returns the address with the domain that stands for its own. What that
// one may stand for is not looked at: once is enough.
func (d domaintable) apply(a mail.Address) mail.Address {
	if to := d[a.ASCIIDomain()]; to != "" {
		a.Domain = to
	}
	return a
}
