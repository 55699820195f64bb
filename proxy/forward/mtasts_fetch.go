package forward

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"
)

// stsClient fetches policies: over HTTPS with a certificate that fits, straight
// from their own host. A redirect, a proxy, a cache are none (RFC 8461 3.3).
type stsClient struct {
	http     *http.Client
	resolver Resolver
	port     string // of HTTPS
}

func newSTSClient(resolver Resolver, roots *x509.CertPool, port int) *stsClient {
	c := &stsClient{resolver: resolver, port: strconv.Itoa(cmp.Or(port, 443))}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:            c.dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    20 * time.Second,
			ResponseHeaderTimeout:  20 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			// No HTTP/2: nothing here is worth its attack surface.
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// dial connects to a host as our own resolver knows it.
func (c *stsClient) dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	host, _, err := c.resolver.LookupHost(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	err = fmt.Errorf("%s has no address", name)
	for _, addr := range host.Addrs {
		dialer := net.Dialer{Timeout: stsPatience / 4}
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, network, net.JoinHostPort(addr.String(), c.port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// record asks for _mta-sts.DOMAIN. A question without an answer is no record: a
// policy that is known stays known, one that isn't can't be found this way.
func (c *stsClient) record(ctx context.Context, domain string) (id string, live bool) {
	texts, _, err := c.resolver.LookupTXT(ctx, "_mta-sts."+domain)
	if err != nil {
		return "", false
	}
	return stsID(texts)
}

// fetch returns the text of a domain's policy.
func (c *stsClient) fetch(ctx context.Context, domain string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "text/plain")
	req.Header.Set("User-Agent", "gatepost")
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("answered %d", resp.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "text/plain" {
		return "", fmt.Errorf("is of type %.60q, not text/plain", resp.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSTSPolicy+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSTSPolicy:
		return "", errors.New("is longer than 64 KiB")
	}
	return string(text), nil
}
