package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// bareID drops the marks of the list, for those who paste from it.
func bareID(s string) string { return strings.TrimRight(s, "*!") }

// readIDs returns the IDs of the command line, each once; "-" stands for those
// on standard input.
func (a *app) readIDs(args []string) ([]string, error) {
	var ids []string
	known := make(map[string]bool)
	add := func(id string) {
		if id = bareID(id); !known[id] {
			known[id] = true
			ids = append(ids, id)
		}
	}
	for _, arg := range args {
		if arg != "-" {
			add(arg)
			continue
		}
		if err := scanIDs(a.in, add); err != nil {
			return nil, exit(exitData, "reading IDs: %w", err)
		}
	}
	return ids, nil
}

// scanIDs reads IDs that are separated by white space, or the JSON lines of a
// list.
func scanIDs(r io.Reader, add func(string)) error {
	in := bufio.NewReader(r)
	for {
		c, err := in.ReadByte()
		if err != nil {
			return notEOF(err)
		}
		if strings.IndexByte(" \t\r\n", c) >= 0 {
			continue
		}
		if err := in.UnreadByte(); err != nil {
			return err
		}
		if c == '{' {
			return scanObjects(in, add)
		}
		return scanWords(in, add)
	}
}

func scanWords(r io.Reader, add func(string)) error {
	words := bufio.NewScanner(r)
	words.Split(bufio.ScanWords)
	for words.Scan() {
		add(words.Text())
	}
	return words.Err()
}

func scanObjects(r io.Reader, add func(string)) error {
	dec := json.NewDecoder(r)
	for n := 1; ; n++ {
		var m struct {
			ID string `json:"queue_id"`
		}
		if err := dec.Decode(&m); err != nil {
			return notEOF(err)
		}
		if m.ID == "" {
			return fmt.Errorf("object %d has no queue_id", n)
		}
		add(m.ID)
	}
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
