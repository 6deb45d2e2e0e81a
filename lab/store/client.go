package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Client keeps numbers at a store the whole time, one after the other, with a new connection when one breaks.
type Client struct {
	Address string
	Pace    time.Duration // between numbers
	First   uint64        // 0: 1
	OnAck   func(Ack)     // nil: none; it is called in Run's goroutine

	mu    sync.Mutex
	acked []Ack
}

// Ack is a number that the store has promised to keep, and when it did.
type Ack struct {
	Number uint64
	At     time.Time
}

const (
	retryEvery    = 5 * time.Millisecond
	answerTimeout = time.Second
)

// Run sends First and the numbers after it until ctx ends. A number without an answer is sent again: keeping it twice
// changes nothing.
func (c *Client) Run(ctx context.Context) {
	number := max(1, c.First)
	for ctx.Err() == nil {
		conn, err := dial(ctx, c.Address)
		if err != nil {
			pause(ctx, retryEvery)
			continue
		}
		in := bufio.NewReader(conn)
		for put(conn, in, number) {
			ack := Ack{Number: number, At: time.Now()}
			c.mu.Lock()
			c.acked = append(c.acked, ack)
			c.mu.Unlock()
			if c.OnAck != nil {
				c.OnAck(ack)
			}
			number++
			if !pause(ctx, c.Pace) {
				break
			}
		}
		_ = conn.Close()
	}
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerTimeout}
	return d.DialContext(ctx, "tcp", address)
}

// put sends one number and reports whether the store has promised to keep it.
func put(conn net.Conn, in *bufio.Reader, number uint64) bool {
	if conn.SetDeadline(time.Now().Add(answerTimeout)) != nil {
		return false
	}
	if _, err := fmt.Fprintf(conn, "PUT %d\n", number); err != nil {
		return false
	}
	line, err := in.ReadString('\n')
	return err == nil && strings.HasPrefix(line, "OK ")
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Acked returns what was acknowledged so far.
func (c *Client) Acked() []Ack {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Ack(nil), c.acked...)
}

// Longest returns the longest time without an acknowledgement between two moments, as the acknowledgements around it.
func Longest(acks []Ack, from, to time.Time) (last, first Ack) {
	for i := 1; i < len(acks); i++ {
		a, b := acks[i-1], acks[i]
		if b.At.Before(from) || a.At.After(to) {
			continue
		}
		if b.At.Sub(a.At) > first.At.Sub(last.At) {
			last, first = a, b
		}
	}
	return last, first
}

// Outage is a time without an acknowledgement, from the last one before it to the first one after it.
type Outage struct{ From, To Ack }

// Length is how long it was.
func (o Outage) Length() time.Duration { return o.To.At.Sub(o.From.At) }

// Outages lists the times without an acknowledgement that were at least so long.
func Outages(acks []Ack, least time.Duration) []Outage {
	var all []Outage
	for i := 1; i < len(acks); i++ {
		if o := (Outage{acks[i-1], acks[i]}); o.Length() >= least {
			all = append(all, o)
		}
	}
	return all
}

// Read asks a store for all numbers that it keeps.
func Read(ctx context.Context, address string) (map[uint64]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(conn, "ALL"); err != nil {
		return nil, err
	}
	kept := map[uint64]bool{}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() == "END" {
			return kept, nil
		}
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the store answered %q", lines.Text())
		}
		kept[n] = true
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the store's answer broke off: %w", err)
	}
	return nil, errors.New("the store's answer broke off")
}

// Missing lists the acknowledged numbers that a store does not keep.
func Missing(acks []Ack, kept map[uint64]bool) []uint64 {
	var missing []uint64
	for _, a := range acks {
		if !kept[a.Number] {
			missing = append(missing, a.Number)
		}
	}
	return missing
}
