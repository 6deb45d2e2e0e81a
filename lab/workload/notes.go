//go:build linux

package workload

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/orscore/ors/lab/notes"
)

// notesPort is where Notes clients ask.
const notesPort = "1352"

// notResponding is what a Notes client shows its user.
const notResponding = "Server not responding"

// notesServer is a Domino server, or the lab's stand-in for one: "CN=Rocky/OU=Servers/O=Cpqlab@HOST[:PORT]". The client
// looks for the server of that name at that host, and goes where it is sent.
type notesServer struct{ address string }

func (n notesServer) connect(ctx context.Context) (session, error) {
	name, host, ok := strings.Cut(n.address, "@")
	if !ok {
		return nil, fmt.Errorf("%q is not NAME@HOST", n.address)
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, notesPort)
	}
	for range 2 { // a port mapper sends on once
		s, at, err := greet(ctx, host, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %s at %s: %w", notResponding, name, host, err)
		}
		if at == "" {
			return s, nil
		}
		s.hangUp()
		host = at
	}
	return nil, fmt.Errorf("%s: %s is sent around", notResponding, name)
}

func greet(ctx context.Context, host, name string) (*storeSession, string, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, "", err
	}
	if err := c.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, "", err
	}
	s := &storeSession{conn: c, in: bufio.NewReader(c)}
	at, err := notes.Greet(c, s.in, name)
	if err != nil {
		s.hangUp()
		return nil, "", err
	}
	return s, at, nil
}
