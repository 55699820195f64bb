//go:build !race

package proxy

const idleLimit = 10 << 10
