package config

import "gatepost/internal/mime"

// readMIME reads the limits on how far a message is taken apart.
func (c *Config) readMIME(top table) {
	t := top.table("mime")
	c.MIME = mime.DefaultConfig()
	t.bind(&c.MIME)
	t.notZero(&c.MIME)
	t.attach(split(c.MIME.Validate()), &c.MIME)
}
