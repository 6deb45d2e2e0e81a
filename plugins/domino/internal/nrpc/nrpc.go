// Package nrpc asks who answers at a Domino server's port: the first message of a Notes client, and what the server
// says of itself in its answer.
//
// The form of both is public knowledge of port scanners (nmap's service probe for Lotus Notes) and was seen there
// with servers of release 5 and 6. It must never send anything beyond that first message, and never take a missing
// or strange answer for proof that no server runs.
package nrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"
)

// Frames have a length of two bytes, little endian, in front. Byte numbers below count it.
const (
	helloSize = 60
	mostReply = 4096

	kindAt     = 8 // what the message is
	kindHello  = 2
	kindReply  = 3
	leastReply = 15 // up to the end of the mark
)

// mark follows the kind in a message and in its answer.
var mark = []byte{0, 0, 0x40, 0x02, 0x0f, 0}

// Hello is the first message of a client.
func Hello() []byte {
	b := make([]byte, helloSize)
	binary.LittleEndian.PutUint16(b, helloSize-2)
	b[4], b[kindAt] = 0x2f, kindHello
	copy(b[kindAt+1:], mark)
	copy(b[15:], []byte{0x01, 0, 0x3d, 0x05})
	b[31] = 0x2f
	b[41], b[42] = 0x40, 0x1f
	return b
}

var (
	// ErrSilent says that a connection was made and no answer came in time.
	ErrSilent = errors.New("it takes the connection and does not answer")
	// ErrForeign says that what answers speaks another protocol.
	ErrForeign = errors.New("what answers there is no Domino server")
)

// canonical is the beginning of a server's name.
var canonical = regexp.MustCompile(`(?i)CN=`)

// Reply reads an answer. The name is the canonical one of the server, "" when the answer has none.
func Reply(frame []byte) (name string, err error) {
	if len(frame) < leastReply || int(binary.LittleEndian.Uint16(frame)) != len(frame)-2 ||
		frame[2] != 0 || frame[3] != 0 || frame[kindAt] != kindReply ||
		string(frame[kindAt+1:leastReply]) != string(mark) {
		return "", ErrForeign
	}
	rest := string(frame[leastReply:])
	at := canonical.FindStringIndex(rest) // not in upper case: that changes the length of bytes that are no characters
	if at == nil {
		return "", nil
	}
	rest = rest[at[0]:]
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < ' ' || r == 0x7f }); end >= 0 {
		rest = rest[:end]
	}
	return strings.TrimSpace(rest), nil
}

// Ask connects and returns the name that the server gives. An error that is neither ErrSilent nor ErrForeign says
// that no connection was made or that it broke.
func Ask(ctx context.Context, address string) (name string, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(10 * time.Second)
	}
	if err := conn.SetDeadline(end); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(Hello()); err != nil {
		return "", err
	}
	frame := make([]byte, 2, 256)
	if _, err := io.ReadFull(conn, frame); err != nil {
		return "", unanswered(err)
	}
	n := int(binary.LittleEndian.Uint16(frame))
	if n > mostReply {
		return "", fmt.Errorf("%w: its answer would have %d bytes", ErrForeign, n)
	}
	frame = append(frame, make([]byte, n)...)
	if _, err := io.ReadFull(conn, frame[2:]); err != nil {
		return "", unanswered(err)
	}
	return Reply(frame)
}

// unanswered tells a server that is busy from one that has hung up.
func unanswered(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return ErrSilent
	}
	return fmt.Errorf("it has hung up without an answer: %w", err)
}

// Connect makes a connection and asks nothing.
func Connect(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
