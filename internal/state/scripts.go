package state

import (
	"embed"

	"github.com/redis/go-redis/v9"
)

// The scripts say what rules.go says; the conformance tests hold them to that.
//
//go:embed lua
var lua embed.FS

// scripts are what Redis runs: each call of a Store is one of them, on keys of
// one slot.
type scripts struct {
	put, get, delete, list, count, take, enter, grey *redis.Script
}

func loadScripts(prelude string) (s scripts) {
	for name, to := range map[string]**redis.Script{
		"put": &s.put, "get": &s.get, "delete": &s.delete, "list": &s.list, "count": &s.count, "take": &s.take, "enter": &s.enter, "grey": &s.grey,
	} {
		*to = redis.NewScript(prelude + source(name))
	}
	return s
}

func source(name string) string {
	b, err := lua.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // it is part of this program
	}
	return string(b)
}
