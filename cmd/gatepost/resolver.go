package main

import (
	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/proxy/forward"
)

// routesOf are the routes of a configuration, with the resolver that they ask.
func routesOf(cfg *config.Config) (forward.Config, error) {
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return forward.Config{}, err
	}
	routes := cfg.Forward
	routes.Resolver = client
	return routes, nil
}

// clientNames finds the names of clients: with the resolvers of [dns], or as
// the system does, its hosts file included.
func clientNames(cfg *config.Config) (*dns.ClientNames, error) {
	if len(cfg.DNS.Servers) == 0 {
		return dns.New(dns.DefaultConfig(), nil)
	}
	client, err := dns.NewClient(cfg.DNS)
	if err != nil {
		return nil, err
	}
	return dns.New(dns.DefaultConfig(), client)
}
