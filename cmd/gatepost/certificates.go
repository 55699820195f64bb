package main

import (
	"crypto/tls"
	"time"
)

// certificates tells when those end that lie in the files of the listeners,
// which is what the next reload takes.
func (g *gateway) certificates() map[string]time.Time {
	files := map[string][2]string{"console": {g.boot.Console.Certificate, g.boot.Console.Key}}
	for _, l := range g.boot.Listeners {
		files[l.Name] = [2]string{l.Certificate, l.Key}
	}
	ends := make(map[string]time.Time)
	for name, f := range files {
		if f[0] == "" {
			continue
		}
		if pair, err := tls.LoadX509KeyPair(f[0], f[1]); err == nil && pair.Leaf != nil {
			ends[name] = pair.Leaf.NotAfter
		}
	}
	return ends
}
