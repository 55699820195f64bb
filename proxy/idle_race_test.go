//go:build race

package proxy

// The race detector takes memory of its own.
const idleLimit = 16 << 10
