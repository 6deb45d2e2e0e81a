//go:build linux

package cable

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Config of a cable that runs as a process of its own.
type Config struct {
	A, B    string // symbolic links that are made to the two devices
	Baud    int
	Control string // unix socket for commands, a line each; it is made last
}

// Serve runs a cable until ctx ends, then removes its links and its socket.
func Serve(ctx context.Context, cfg Config) (err error) {
	c, err := Open(cfg.Baud)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for e, link := range map[End]string{A: cfg.A, B: cfg.B} {
		if err := os.Symlink(c.Path(e), link); err != nil {
			return errors.Join(fmt.Errorf("cable: %w", err), c.Close())
		}
		c.links[e] = link
		defer func() {
			if e := os.Remove(link); !errors.Is(e, os.ErrNotExist) { // it is gone while the end is unplugged
				err = errors.Join(err, e)
			}
		}()
	}
	l, err := net.Listen("unix", cfg.Control)
	if err != nil {
		return errors.Join(fmt.Errorf("cable: %w", err), c.Close())
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() { defer wg.Done(); c.converse(ctx, conn) }()
		}
	}()
	return c.Run(ctx)
}

// converse answers the commands of one connection: "ok …" or "error …".
func (c *Cable) converse(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		said, err := c.Do(lines.Text())
		answer := "ok " + said
		if err != nil {
			answer = "error " + err.Error()
		}
		if _, err := fmt.Fprintln(conn, answer); err != nil {
			return
		}
	}
}

// Command sends one command to a cable that runs as a process, and returns its answer.
func Command(ctx context.Context, control, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", control)
	if err != nil {
		return "", fmt.Errorf("cable: %w", err)
	}
	defer func() { _ = conn.Close() }()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", fmt.Errorf("cable: %w", err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("cable: %w", err)
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(answer), " ")
	if word != "ok" {
		return "", errors.New(rest)
	}
	return rest, nil
}

// Await waits until a cable answers on its control socket.
func Await(ctx context.Context, control string) error {
	for {
		_, err := Command(ctx, control, "status")
		if err == nil {
			return nil
		}
		if !pause(ctx, 10*time.Millisecond) {
			return fmt.Errorf("the cable does not answer: %w", err)
		}
	}
}
