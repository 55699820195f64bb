package testkit

import (
	"fmt"
	"slices"
	"strings"
)

// Config is a gateway's configuration file that a test can change key by key.
// Values are TOML as it stands in the file.
type Config struct {
	Raw      string   // in place of all that was set; "": not
	sections []string // in order; "" is the top
	keys     map[string][]string
	values   map[string]string // section + "\n" + key
}

// Set sets a key of a section: Set("filter.clamav", "on_error", `"continue"`).
func (c *Config) Set(section, key, value string) {
	if c.keys == nil {
		c.keys, c.values = make(map[string][]string), make(map[string]string)
	}
	if !slices.Contains(c.sections, section) {
		c.sections = append(c.sections, section)
	}
	if _, known := c.values[section+"\n"+key]; !known {
		c.keys[section] = append(c.keys[section], key)
	}
	c.values[section+"\n"+key] = value
}

// Drop takes a whole section out.
func (c *Config) Drop(section string) {
	for _, key := range c.keys[section] {
		delete(c.values, section+"\n"+key)
	}
	delete(c.keys, section)
	c.sections = slices.DeleteFunc(c.sections, func(s string) bool { return s == section })
}

// Text is the file.
func (c *Config) Text() string {
	if c.Raw != "" {
		return c.Raw
	}
	var b strings.Builder
	sections := slices.Clone(c.sections)
	slices.SortStableFunc(sections, func(x, y string) int { return min(len(x), 1) - min(len(y), 1) }) // the top first
	for _, section := range sections {
		if section != "" {
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		for _, key := range c.keys[section] {
			fmt.Fprintf(&b, "%s = %s\n", key, c.values[section+"\n"+key])
		}
	}
	return b.String()
}
