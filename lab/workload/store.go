//go:build linux

package workload

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// numberStore is the lab's small server, package store.
type numberStore struct{ address string }

func (n numberStore) connect(ctx context.Context) (session, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", n.address)
	if err != nil {
		return nil, err
	}
	return &storeSession{conn: c, in: bufio.NewReader(c)}, nil
}

type storeSession struct {
	conn net.Conn
	in   *bufio.Reader
}

// say sends a command; answers must have come when ctx ends.
func (s *storeSession) say(ctx context.Context, command string) error {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(loginTimeout)
	}
	if err := s.conn.SetDeadline(end); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.conn, command)
	return err
}

func (s *storeSession) answer() (string, error) {
	line, err := s.in.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (s *storeSession) highest(ctx context.Context, below int64) (int64, error) {
	rows, err := s.all(ctx, 0, below)
	highest := int64(0)
	for _, r := range rows {
		highest = max(highest, r.Number)
	}
	return highest, err
}

func (s *storeSession) put(ctx context.Context, number int64) (string, error) {
	if err := s.say(ctx, fmt.Sprintf("PUT %d", number)); err != nil {
		return "", err
	}
	a, err := s.answer()
	if err != nil {
		return "", err
	}
	line, ok := strings.CutPrefix(a, "OK ")
	if !ok {
		return "", fmt.Errorf("the store answered %q", a)
	}
	return line, nil
}

func (s *storeSession) all(ctx context.Context, from, below int64) ([]Row, error) {
	if err := s.say(ctx, "ROWS"); err != nil {
		return nil, err
	}
	var rows []Row
	for {
		a, err := s.answer()
		if err != nil || a == "END" {
			return rows, err
		}
		number, line, ok := strings.Cut(a, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || !ok {
			return nil, fmt.Errorf("the store answered %q", a)
		}
		if n >= from && n < below {
			rows = append(rows, Row{Number: n, Line: line})
		}
	}
}

func (s *storeSession) hangUp() { _ = s.conn.Close() } // it is given up either way
