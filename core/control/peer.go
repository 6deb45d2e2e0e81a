package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	controlv1 "github.com/orscore/ors/proto/ors/control/v1"
)

// caller is who is at the other end of a connection, in the kernel's words.
type caller struct {
	credentials.CommonAuthInfo
	pid    int
	uid    int
	groups []int // primary and supplementary
	known  bool  // false where the system does not tell
}

func (caller) AuthType() string { return "unix-peer" }

func (c caller) String() string {
	if !c.known {
		return "a local user"
	}
	return fmt.Sprintf("uid %d, pid %d", c.uid, c.pid)
}

// peerCredentials asks the kernel who has connected. It hides nothing: the socket does not leave the machine.
type peerCredentials struct{}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials serve the agent's side only")
}

func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := callerOf(conn)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ORS-7002: the kernel does not say who asks: %w", err), conn.Close())
	}
	c.CommonAuthInfo = credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, c, nil
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }
func (peerCredentials) OverrideServerName(string) error           { return nil }

// peerOf names the caller for the journal.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		if c, ok := p.AuthInfo.(caller); ok {
			return c.String()
		}
	}
	return "unknown"
}

// gate decides who may ask what.
type gate struct {
	self  int // uid of the agent
	group int // gid whose members may look; -1: none
	name  string
}

func newGate(p Permission) (*gate, error) {
	g := &gate{self: os.Getuid(), group: -1, name: p.Group}
	if p.Group == "" {
		return g, nil
	}
	found, err := user.LookupGroup(p.Group)
	if err != nil {
		return nil, fmt.Errorf("ORS-7005: group %q of operators who may look: %w", p.Group, err)
	}
	if g.group, err = strconv.Atoi(found.Gid); err != nil {
		return nil, fmt.Errorf("ORS-7005: group %q has no number here: %w", p.Group, err)
	}
	return g, nil
}

// own lets the group's members reach the socket.
func (g *gate) own(path string) error {
	if g.group < 0 {
		return nil
	}
	return os.Chown(path, -1, g.group)
}

// looking lists the calls that change nothing but what is on record of the caller itself.
var looking = map[string]bool{
	controlv1.ControlService_Status_FullMethodName: true,
	controlv1.ControlService_Watch_FullMethodName:  true,
	controlv1.ControlService_Events_FullMethodName: true,
	controlv1.ControlService_Notify_FullMethodName: true,
}

// admit returns nil when the caller may make the call, else an error with ErrNotPermitted (ORS-7002).
func (g *gate) admit(ctx context.Context, method string) error {
	var c caller
	if p, ok := peer.FromContext(ctx); ok {
		c, ok = p.AuthInfo.(caller)
		if !ok {
			return toWire(fmt.Errorf("ORS-7002: %w: the kernel does not say who asks", ErrNotPermitted))
		}
	}
	if !c.known && !kernelTellsPeer || c.known && (c.uid == 0 || c.uid == g.self) {
		return nil
	}
	member := c.known && g.group >= 0 && slices.Contains(c.groups, g.group)
	if member && looking[method] {
		return nil
	}
	who := "root and the agent's user"
	if g.group >= 0 && looking[method] {
		who += " and members of group " + g.name
	}
	return toWire(fmt.Errorf("ORS-7002: %w: %s may not do this; %s may", ErrNotPermitted, c, who))
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g *gate) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := g.admit(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, s)
}
