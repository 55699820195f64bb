package config

// checkQueue gives what is wrong in [queue] and [queue.group.NAME] its place.
func (c *Config) checkQueue(t table) {
	for _, s := range t.tables("group") {
		g := c.Queue.Groups[s.name]
		s.notZero(&g)
	}
	t.attach(split(c.Queue.Validate()), &c.Queue, "queue: ")
}
