package rsw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/orscore/ors/core/storage"
)

// defaultBaud is the speed of a serial endpoint that names none.
const defaultBaud = 19200

// stream is a connection to a switch.
type stream interface {
	io.ReadWriteCloser
	SetWriteDeadline(time.Time) error
}

// endpoint says where a switch is.
type endpoint struct {
	text    string // canonical, and the key under which connections are shared
	network string // "unix", "tcp" or "serial"
	address string // path or host:port
	baud    int    // serial only
}

// parseEndpoint reads the three forms of an endpoint.
func parseEndpoint(s string) (endpoint, error) {
	wrong := func(format string, args ...any) (endpoint, error) {
		return endpoint{}, &storage.Error{Code: storage.CodeEndpoint, Err: fmt.Errorf("rsw: endpoint %q: %s; "+
			`right would be "unix:/path", "tcp:host:port" or "serial:/dev/name?baud=19200"`, s, fmt.Sprintf(format, args...))}
	}
	network, address, ok := strings.Cut(s, ":")
	if !ok {
		return wrong("no kind before a colon")
	}
	ep := endpoint{text: s, network: network, address: address}
	switch network {
	case "unix":
		if !filepath.IsAbs(address) {
			return wrong("the socket's path must be absolute")
		}
		if len(address) > 107 {
			return wrong("the socket's path has %d bytes, a kernel takes 107", len(address))
		}
	case "tcp":
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			return wrong("it needs a host and a port")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return wrong("port %q is not a number from 1 to 65535", port)
		}
	case "serial":
		path, query, _ := strings.Cut(address, "?")
		if path == "" || path[0] != '/' && !strings.HasPrefix(strings.ToUpper(path), "COM") && path[0] != '\\' {
			return wrong("it needs the path of a serial port")
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			return wrong("%v", err)
		}
		ep.address, ep.baud = path, defaultBaud
		for k, v := range values {
			n, err := strconv.Atoi(v[0])
			if k != "baud" || len(v) != 1 || err != nil || n < 50 || n > 4_000_000 {
				return wrong("%s=%s is not a speed from 50 to 4000000", k, v[0])
			}
			ep.baud = n
		}
		ep.text = fmt.Sprintf("serial:%s?baud=%d", ep.address, ep.baud)
	default:
		return wrong("kind %q is not known", network)
	}
	return ep, nil
}

// dial opens a connection; it ends with ctx.
func (e endpoint) dial(ctx context.Context) (stream, error) {
	if e.network == "serial" {
		return openSerial(e.address, e.baud)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, e.network, e.address)
	if err != nil {
		return nil, err
	}
	s, ok := c.(stream)
	if !ok {
		return nil, errors.Join(fmt.Errorf("rsw: %s has no write deadline", e.text), c.Close())
	}
	return s, nil
}
