package access

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const maxLine = 4096 // bytes of one line of a list

// eachLine calls do for each line of a list with its number from 1. Ends of
// line of Windows and a byte order mark are dropped.
func eachLine(path string, r io.Reader, do func(number int, line string)) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSuffix(s.Text(), "\r")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		do(n, line)
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: line longer than %d bytes; is this a text file?", path, n+1, maxLine)
	} else if err != nil {
		return fmt.Errorf("%s:%d: %w", path, n+1, err)
	}
	return nil
}

// Problems collects what is wrong with a configuration, up to a bound: a wrong
// file of a million lines need not be told a million times.
type Problems struct {
	list []error
	more int
}

const maxProblems = 50

// Note notes an error with the place where it is.
func (p *Problems) Note(where string, err error) {
	if err != nil {
		p.Add(fmt.Errorf("%s: %w", where, err))
	}
}

func (p *Problems) noteLine(path string, number int, err error) {
	if err != nil {
		p.Add(fmt.Errorf("%s:%d: %w", path, number, err))
	}
}

// Add notes an error that says itself where.
func (p *Problems) Add(err error) {
	switch {
	case err == nil:
	case len(p.list) == maxProblems:
		p.more++
	default:
		p.list = append(p.list, err)
	}
}

// Join returns them as one error, nil for none.
func (p *Problems) Join() error { return errors.Join(p.all()...) }

func (p *Problems) texts() []string {
	var texts []string
	for _, err := range p.all() {
		texts = append(texts, err.Error())
	}
	return texts
}

func (p *Problems) all() []error {
	if p.more == 0 {
		return p.list
	}
	return append(slices.Clip(p.list), fmt.Errorf("and %d more like these", p.more))
}
