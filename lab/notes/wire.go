//go:build linux

package notes

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A client's first message and its answer, as port scanners know them (nmap's service probe for Lotus Notes): a
// length of two bytes, little endian, zeros, what the message is, a mark; the answer holds the server's canonical
// name in ASCII.
const (
	helloBytes = 60
	isHello    = 2
	isAnswer   = 3
)

var markBytes = [6]byte{0, 0, 0x40, 0x02, 0x0f, 0}

func hello() []byte {
	m := make([]byte, helloBytes)
	m[0], m[4], m[8] = helloBytes-2, 0x2f, isHello
	copy(m[9:], markBytes[:])
	copy(m[15:], []byte{1, 0, 0x3d, 5})
	m[31], m[41], m[42] = 0x2f, 0x40, 0x1f
	return m
}

// helloAnswer is what a server says to it. A server that keeps its name to itself leaves it out.
func helloAnswer(name string) []byte {
	m := append([]byte{0, 0, 0, 0, 0x2f, 0, 0, 0, isAnswer}, markBytes[:]...)
	m = append(m, 1, 0, 0x3d, 5, 0, 0)
	m = append(m, name...)
	m = append(m, 0, 0)
	binary.LittleEndian.PutUint16(m, uint16(len(m)-2))
	return m
}

func readMessage(in io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	m := make([]byte, 2+int(binary.LittleEndian.Uint16(head[:])))
	copy(m, head[:])
	_, err := io.ReadFull(in, m[2:])
	return m, err
}

func isKind(m []byte, kind byte) bool {
	return len(m) > 15 && m[8] == kind && [6]byte(m[9:15]) == markBytes
}

// nameIn finds the name in an answer.
func nameIn(m []byte) (string, error) {
	if !isKind(m, isAnswer) {
		return "", fmt.Errorf("no answer of a Domino server: %x", m)
	}
	_, rest, found := strings.Cut(string(m), "CN=")
	if !found {
		return "", errors.New("the answer has no name")
	}
	name, _, _ := strings.Cut(rest, "\x00")
	return "CN=" + name, nil
}

// After the hello both speak lines, which are the lab's own: the client names the server it wants, and hears that it
// is here, at which address it is, or that it is unknown here.
const (
	wants     = "SERVER "
	isHere    = "HERE"
	isAt      = "AT "
	isUnknown = "UNKNOWN"
)

// Greet speaks as a client to what answers on a connection, and asks for a server by its canonical name. It returns
// where that one is: "" when it is the one that answers.
func Greet(conn io.Writer, in *bufio.Reader, name string) (at string, err error) {
	if _, err := conn.Write(hello()); err != nil {
		return "", err
	}
	m, err := readMessage(in)
	if err != nil {
		return "", err
	}
	who, err := nameIn(m)
	if err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, wants+name); err != nil {
		return "", err
	}
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	switch to, mapped := strings.CutPrefix(line, isAt); {
	case mapped:
		return to, nil
	case line == isHere && strings.EqualFold(who, name):
		return "", nil
	}
	return "", fmt.Errorf("%s answers, which says of %s: %s", who, name, line)
}
