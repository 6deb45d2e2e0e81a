//go:build linux

package workload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// Times of a client. They bound how finely an outage is measured.
const (
	retryPause     = 5 * time.Millisecond
	dialTimeout    = 20 * time.Millisecond // of a TCP connection: we repeat a lost packet, not the kernel after a second
	loginTimeout   = 2 * time.Second
	commitTimeout  = 400 * time.Millisecond
	requestTimeout = time.Second
)

// Postgres is a database client that commits numbered rows for as long as it runs.
type Postgres struct {
	Address  string // host:port
	User     string
	Database string
	Pace     time.Duration // between commits
}

const (
	createTable = "CREATE TABLE IF NOT EXISTS rows (id bigserial PRIMARY KEY, n bigint NOT NULL)"
	insertRow   = "INSERT INTO rows (n) VALUES ($1)"
	highestRow  = "SELECT coalesce(max(n), 0) FROM rows"
)

// Run commits rows until ctx ends. It uses one connection, and a new one when that breaks. A number whose commit was
// not acknowledged is never used again.
func (p Postgres) Run(ctx context.Context, log *Log) error {
	var conn *pgx.Conn
	defer func() { hangUp(conn) }()
	number := int64(0)
	known := false // whether number is above all rows of former clients
	tick := time.NewTicker(p.Pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		if conn == nil {
			c, err := p.connect(ctx)
			if err == nil && !known {
				number, err = p.prepare(ctx, c)
				known = err == nil
			}
			if err != nil {
				hangUp(c)
				if err := log.Write(Entry{Kind: Broken, Number: number, At: time.Now(), Text: err.Error()}); err != nil {
					return err
				}
				pause(ctx, retryPause)
				continue
			}
			conn = c
		}
		number++
		e := Entry{Kind: Served, Number: number}
		bounded, cancel := context.WithTimeout(ctx, commitTimeout)
		_, err := conn.Exec(bounded, insertRow, number)
		cancel()
		if err != nil {
			e.Kind, e.Text = Failed, err.Error()
			hangUp(conn)
			conn = nil
		}
		e.At = time.Now()
		if err := log.Write(e); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// connect opens a connection. Its TCP part is retried quickly, its login is given time, since a server that has just
// started is slow.
func (p Postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", p.User, p.Address, p.Database))
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = loginTimeout
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
		return d.DialContext(ctx, network, address)
	}
	return pgx.ConnectConfig(ctx, cfg)
}

func (p Postgres) prepare(ctx context.Context, c *pgx.Conn) (highest int64, err error) {
	bounded, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	if _, err := c.Exec(bounded, createTable); err != nil {
		return 0, err
	}
	return highest, c.QueryRow(bounded, highestRow).Scan(&highest)
}

// hangUp ends a connection without waiting for a server that may be gone.
func hangUp(c *pgx.Conn) {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_ = c.Close(ctx) // the connection is given up either way
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Verdict is what reading all rows back has shown.
type Verdict struct {
	Acknowledged int     `json:"acknowledged"` // rows whose commit was acknowledged
	Rows         int     `json:"rows"`         // rows found
	Lost         int     `json:"lost"`         // acknowledged and not found
	Doubled      int     `json:"doubled"`      // numbers found more than once
	Disordered   int     `json:"disordered"`   // rows that come before a row with a lower number
	Foreign      int     `json:"foreign"`      // rows that nobody has written
	Examples     []int64 `json:"examples,omitempty"`
}

// OK says whether all is as it must be.
func (v Verdict) OK() bool { return v.Lost+v.Doubled+v.Disordered+v.Foreign == 0 }

// Check reads all rows and compares them with the entries of the client's log, which were read before the call: each
// acknowledged number must be there once, in order; others may be there or not.
func (p Postgres) Check(ctx context.Context, entries []Entry) (Verdict, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return Verdict{}, fmt.Errorf("reading the rows back: %w", err)
	}
	defer hangUp(conn)
	rows, err := conn.Query(ctx, "SELECT n FROM rows ORDER BY id")
	if err != nil {
		return Verdict{}, fmt.Errorf("reading the rows back: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return Verdict{}, fmt.Errorf("reading the rows back: %w", err)
	}
	return judge(entries, found), nil
}

// CheckPatiently checks, again when the connection breaks, until ctx ends.
func (p Postgres) CheckPatiently(ctx context.Context, entries []Entry) (Verdict, error) {
	for {
		v, err := p.Check(ctx, entries)
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		pause(ctx, 20*retryPause)
		if ctx.Err() != nil {
			return v, errors.Join(err, ctx.Err())
		}
	}
}

const maxExamples = 5

func judge(entries []Entry, found []int64) Verdict {
	v := Verdict{Rows: len(found)}
	seen := make(map[int64]int, len(found))
	for i, n := range found {
		seen[n]++
		if i > 0 && n < found[i-1] {
			v.Disordered++
		}
	}
	tried, highest := map[int64]bool{}, int64(0)
	for _, e := range entries {
		if e.Kind == Broken {
			continue
		}
		tried[e.Number] = true
		highest = max(highest, e.Number)
		if e.Kind != Served {
			continue
		}
		v.Acknowledged++
		if seen[e.Number] == 0 {
			v.Lost++
			if len(v.Examples) < maxExamples {
				v.Examples = append(v.Examples, e.Number)
			}
		}
	}
	for n, times := range seen {
		if times > 1 {
			v.Doubled++
		}
		if n <= highest && !tried[n] { // higher ones came after the log was read
			v.Foreign++
		}
	}
	return v
}
