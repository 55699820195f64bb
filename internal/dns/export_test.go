package dns

// CacheLen is the number of clients that are remembered.
func CacheLen(c *ClientNames) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}
