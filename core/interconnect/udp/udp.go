// Package udp is an interconnect link over a network path: one datagram a frame.
//
// It must never take a datagram from another address than the partner's, and never end because the network is gone
// for a while: an address that is missing is waited for.
package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/interconnect/internal/outbox"
)

const (
	// maxFrame leaves room for headers and tunnels in an Ethernet packet, so that no datagram is fragmented.
	maxFrame = 1200
	// queued is how many frames wait behind the beats: about eight of the largest messages.
	queued = 256
	// writeTimeout bounds one write: a socket buffer that stays full that long has lost its frame.
	writeTimeout = 100 * time.Millisecond
	// failingMax is for how long every write may fail before the socket is opened anew.
	failingMax   = time.Second
	lookupMax    = 5 * time.Second
	backoffFirst = 50 * time.Millisecond
	backoffMax   = time.Second
)

// Link is a UDP link. It implements interconnect.Link.
type Link struct {
	name, local, remote string
	log                 hclog.Logger
	out                 *outbox.Outbox

	framesOut, framesIn, bytesOut, bytesIn, dropped, garbage, opened atomic.Uint64
}

// New returns a link from the local address to the remote one, both host:port. The log may be nil.
func New(name, local, remote string, log hclog.Logger) *Link {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Link{name: name, local: local, remote: remote, log: log, out: outbox.New(queued)}
}

// Name is the link's name in the configuration.
func (l *Link) Name() string { return l.name }

// Kind is "udp".
func (l *Link) Kind() string { return "udp" }

// Device says between which addresses the link runs.
func (l *Link) Device() string { return l.local + " - " + l.remote }

// MaxFrame is the largest frame, in bytes.
func (l *Link) MaxFrame() int { return maxFrame }

// Send queues a frame and never blocks; false: it was dropped.
func (l *Link) Send(frame []byte, urgent bool) bool {
	taken, replaced := l.out.Put(frame, urgent)
	if !taken || replaced {
		l.dropped.Add(1)
	}
	return taken
}

// Counters since the start. Garbage counts datagrams of strangers and such as are too long.
func (l *Link) Counters() interconnect.LinkCounters {
	return interconnect.LinkCounters{
		FramesOut: l.framesOut.Load(), FramesIn: l.framesIn.Load(), BytesOut: l.bytesOut.Load(), BytesIn: l.bytesIn.Load(),
		Dropped: l.dropped.Load(), Garbage: l.garbage.Load(), Reopened: max(l.opened.Load(), 1) - 1,
	}
}

// Run keeps a socket open until ctx ends, and calls in for every datagram of the partner and state for every change.
func (l *Link) Run(ctx context.Context, in func([]byte), state func(up bool, reason string)) error {
	backoff := backoffFirst
	for ctx.Err() == nil {
		conn, remote, err := l.open(ctx)
		if err == nil {
			l.opened.Add(1)
			l.dropped.Add(uint64(l.out.Clear()))
			state(true, "")
			l.log.Debug("socket is open", "local", l.local, "remote", remote)
			began := time.Now()
			err = l.serve(ctx, conn, remote, in)
			if time.Since(began) > backoffMax {
				backoff = backoffFirst
			}
		}
		if ctx.Err() != nil {
			break
		}
		l.log.Debug("socket is not open", "local", l.local, "error", err, "again_in", backoff)
		state(false, err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffMax)
	}
	state(false, "closed")
	return nil
}

func (l *Link) open(ctx context.Context) (*net.UDPConn, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupMax)
	defer cancel()
	remote, err := resolve(ctx, l.remote)
	if err != nil {
		return nil, remote, fmt.Errorf("partner's address %s: %w", l.remote, err)
	}
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", l.local)
	if err != nil {
		return nil, remote, fmt.Errorf("address %s: %w", l.local, err)
	}
	return pc.(*net.UDPConn), remote, nil
}

func resolve(ctx context.Context, hostport string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(port)), nil
}

// serve reads and writes until ctx ends or the socket fails, and closes it.
func (l *Link) serve(ctx context.Context, conn *net.UDPConn, remote netip.AddrPort, in func([]byte)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends reads and writes
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.read(conn, remote, in)) })
	cancel(l.write(ctx, conn, remote))
	_ = conn.Close()
	wg.Wait()
	return context.Cause(ctx)
}

func (l *Link) read(conn *net.UDPConn, remote netip.AddrPort, in func([]byte)) error {
	buf := make([]byte, maxFrame+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return errors.New("socket closed")
		}
		if err != nil {
			if !transient(err) {
				return fmt.Errorf("read: %w", err)
			}
			continue
		}
		if from.Addr().Unmap().WithZone("") != remote.Addr().WithZone("") || n > maxFrame || n == 0 {
			l.garbage.Add(1)
			continue
		}
		l.framesIn.Add(1)
		l.bytesIn.Add(uint64(n))
		in(append([]byte(nil), buf[:n]...))
	}
}

// write sends what is queued. Only writes that all fail for failingMax are an error.
func (l *Link) write(ctx context.Context, conn *net.UDPConn, remote netip.AddrPort) error {
	var failing time.Time // since when; zero: the last write worked
	for {
		frame := l.out.Take()
		if frame == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.out.Wake():
			}
			continue
		}
		now := time.Now()
		_ = conn.SetWriteDeadline(now.Add(writeTimeout))
		_, err := conn.WriteToUDPAddrPort(frame, remote)
		switch {
		case err == nil:
			failing = time.Time{}
			l.framesOut.Add(1)
			l.bytesOut.Add(uint64(len(frame)))
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case failing.IsZero():
			failing = now
		case now.Sub(failing) >= failingMax:
			return fmt.Errorf("write to %s: %w", remote, err)
		}
		l.dropped.Add(1)
	}
}
