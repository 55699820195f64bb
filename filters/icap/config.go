package icap

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"gatepost/filters"
	"gatepost/internal/mime"
)

// Config of the filter.
type Config struct {
	// Address lists ICAP servers, tried in this order: "tcp:host:port",
	// "unix:/path", "tls:host:port". Default tcp:127.0.0.1:1344.
	Address []string `toml:"address"`
	// Service is its name on the server, the path in icap://host/service:
	// "avscan", "virus_scan", "squidclamav". There is no default.
	Service string `toml:"service"`
	// Method is respmod (the message comes as a download; default) or reqmod
	// (as an upload).
	Method Method `toml:"method"`
	// Preview is how much is sent ahead, so that the server can say no to the
	// rest; the server's own wish limits it. What it called harmless by its
	// preview is reported as not scanned. Default 0: everything is sent.
	Preview int64 `toml:"preview,size"`
	// Timeout of one scan, all addresses and parts included. Default 60s.
	Timeout time.Duration `toml:"timeout"`
	// OnError is what becomes of mail that could not be scanned. Default
	// tempfail.
	OnError filters.OnError `toml:"on_error"`
	// MaxSize is the size of the largest message that is sent. Larger mail is
	// reported as not scanned. Default 100MB.
	MaxSize int64 `toml:"max_size,size"`
	// MaxConcurrent is how many scans run at a time. Default 10.
	MaxConcurrent int `toml:"max_concurrent"`

	// Inside has the limits of taking messages apart.
	Inside mime.Config `toml:"-"`
}

// Method says how the message is dressed up.
type Method string

// The methods.
const (
	RespMod Method = "respmod"
	ReqMod  Method = "reqmod"
)

// Validate refuses unknown words.
func (m Method) Validate() error {
	switch m {
	case "", RespMod, ReqMod:
		return nil
	}
	return fmt.Errorf("method: %q is not one of respmod, reqmod", string(m))
}

// DefaultConfig is used for keys that are not in the configuration.
func DefaultConfig() Config {
	return Config{
		Address:       []string{"tcp:127.0.0.1:1344"},
		Method:        RespMod,
		Timeout:       time.Minute,
		OnError:       filters.TempFail,
		MaxSize:       100 << 20,
		MaxConcurrent: 10,
		Inside:        mime.DefaultConfig(),
	}
}

// maxPreview is more than any server asks for.
const maxPreview = 64 << 10

// goodService is what may stand in the request line.
var goodService = regexp.MustCompile(`^[A-Za-z0-9._~/?=&%-]{1,200}$`)

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	def := DefaultConfig()
	if len(c.Address) == 0 {
		c.Address = def.Address
	}
	if c.Method == "" {
		c.Method = def.Method
	}
	if c.Timeout == 0 {
		c.Timeout = def.Timeout
	}
	if c.MaxSize == 0 {
		c.MaxSize = def.MaxSize
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = def.MaxConcurrent
	}
	if c.Inside == (mime.Config{}) {
		c.Inside = def.Inside
	}
	return c
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.Method.Validate(), c.OnError.Validate()}
	switch {
	case c.Service == "":
		errs = append(errs, errors.New(`service: is missing; write the service's name on the server, such as "avscan"`))
	case !goodService.MatchString(c.Service):
		errs = append(errs, fmt.Errorf(`service: %q is no name of a service; write what stands behind icap://host/`, c.Service))
	}
	if c.Preview < 0 || c.Preview > maxPreview {
		errs = append(errs, errors.New(`preview: is not between 0 and 64KiB`))
	}
	if c.Timeout < 0 {
		errs = append(errs, errors.New("timeout: is negative"))
	}
	if c.MaxSize < 0 {
		errs = append(errs, errors.New("max_size: is negative"))
	}
	if c.MaxConcurrent < 0 {
		errs = append(errs, errors.New("max_concurrent: is negative"))
	}
	return errors.Join(errs...)
}
