package domino

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/plugins/sdk"
)

// serve answers each connection in its own way until the test ends, and returns where.
func serve(t *testing.T, do func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			do(c.(*net.TCPConn))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// nobody is an address where surely nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// full is an address whose listener has no room for another connection: a dial comes to no end.
func full(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port)).String()
	for {
		c, err := net.DialTimeout("tcp", at, 200*time.Millisecond)
		if err != nil {
			return at
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// TestWhatFails: only what surely shows that nobody listens, or that somebody else does, is a failure. A network that is
// out of order, or a server that is busy, is no reason to move it.
func TestWhatFails(t *testing.T) {
	const unreachable = "224.0.0.1:1352" // no TCP goes to a multicast address
	silent := func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }
	hangsUp := func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 60)) }
	resets := func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 10))
		_ = c.SetLinger(0)
	}
	foreign := func(c *net.TCPConn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2p1 Debian\r\n")) }
	for name, c := range map[string]struct {
		probe string
		at    string
		want  sdk.Health
	}{
		"refused":           {probeHello, nobody(t), sdk.Failed},
		"refused, tcp":      {probeTCP, nobody(t), sdk.Failed},
		"another protocol":  {probeHello, serve(t, foreign), sdk.Failed},
		"unreachable":       {probeHello, unreachable, sdk.HealthUnknown},
		"unreachable, tcp":  {probeTCP, unreachable, sdk.HealthUnknown},
		"no room":           {probeHello, full(t), sdk.HealthUnknown},
		"no room, tcp":      {probeTCP, full(t), sdk.HealthUnknown},
		"silent":            {probeHello, serve(t, silent), sdk.HealthUnknown},
		"hangs up":          {probeHello, serve(t, hangsUp), sdk.HealthUnknown},
		"resets":            {probeHello, serve(t, resets), sdk.HealthUnknown},
		"takes connections": {probeTCP, serve(t, silent), sdk.Healthy},
	} {
		t.Run(name, func(t *testing.T) {
			a := &application{config: config{Probe: c.probe}}
			s := server{partition: partition{Name: apollo}, at: netip.MustParseAddrPort(c.at)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if got := a.probeAnswer(ctx, s); got.Health != c.want || got.Detail == "" {
				t.Errorf("health %v, want %v: %s", got.Health, c.want, got.Detail)
			}
		})
	}
}

// TestHTTPTask: a certificate is the clients' business; what the server says behind it counts.
func TestHTTPTask(t *testing.T) {
	web := func(status int) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS() // with a certificate that nobody here trusts, for another name
		t.Cleanup(s.Close)
		return s.URL
	}
	silent := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	for name, c := range map[string]struct {
		url   string
		want  sdk.Health
		words string
	}{
		"well":       {web(http.StatusOK), sdk.Healthy, "So does its HTTP task"},
		"login":      {web(http.StatusUnauthorized), sdk.Healthy, "So does its HTTP task"},
		"error":      {web(http.StatusServiceUnavailable), sdk.Failed, "503"},
		"refused":    {"https://" + nobody(t), sdk.Failed, "refused"},
		"silent":     {"https://" + silent, sdk.HealthUnknown, "does not"},
		"no answer":  {"http://" + serve(t, func(*net.TCPConn) {}), sdk.HealthUnknown, "does not"},
		"no network": {"http://224.0.0.1/", sdk.HealthUnknown, "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &application{config: config{Probe: probeTCP}}
			s := server{partition: partition{Name: apollo, HTTP: c.url}}
			s.at = netip.MustParseAddrPort(serve(t, func(*net.TCPConn) {}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if got := a.probeAnswer(ctx, s); got.Health != c.want || !strings.Contains(got.Detail, c.words) {
				t.Errorf("health %v, want %v with %q: %s", got.Health, c.want, c.words, got.Detail)
			}
		})
	}
}
