// Package peerpid lets a gRPC connection over a Unix socket be made to one process only, where there is no TLS: the
// kernel says who listens. The socket is in a folder that nobody else may enter.
//
// It must never be used over a network, and never takes a missing answer of the kernel for the right process.
package peerpid

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
)

// Credentials make connections to the process that want names, and to none while that is 0. They encrypt nothing.
func Credentials(want func() int) credentials.TransportCredentials { return &creds{want: want} }

type creds struct{ want func() int }

// Info is what is known of the other side of a connection: its process.
type Info struct {
	credentials.CommonAuthInfo
	PID int
}

// AuthType names this kind of connection.
func (Info) AuthType() string { return "pid" }

// ClientHandshake asks the kernel who listens.
func (p *creds) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	pid, err := listener(c)
	if err != nil {
		return nil, nil, fmt.Errorf("who listens on the socket is unknown: %w", err)
	}
	if want := p.want(); pid != want || want == 0 {
		return nil, nil, fmt.Errorf("process %d listens on the socket, and not %d, which was started", pid, want)
	}
	return c, Info{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, PID: pid}, nil
}

// ServerHandshake is not there: these credentials are a client's.
func (*creds) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

// Info describes the protocol.
func (*creds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "pid"}
}

// Clone returns the same credentials.
func (p *creds) Clone() credentials.TransportCredentials { return &creds{want: p.want} }

// OverrideServerName does nothing: a process has no such name.
func (*creds) OverrideServerName(string) error { return nil }
