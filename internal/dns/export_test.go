package dns

import "time"

// CacheLen is the number of clients that are remembered.
func CacheLen(c *ClientNames) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}

// ParseResolvConf is parseResolvConf.
var ParseResolvConf = parseResolvConf

// Servers are those that c would ask.
func Servers(c *Client) []string { list, _ := c.servers.current(); return list }

// SetNow gives c another clock.
func SetNow(c *Client, now func() time.Time) { c.now = now }

// AnswerCount is the number of answers that are remembered.
func AnswerCount(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}
