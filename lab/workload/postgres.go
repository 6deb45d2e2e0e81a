//go:build linux

package workload

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres keeps rows in a table. A row's line of history is the start of the server that has committed it: the
// server itself puts it into the row, and returns it with the acknowledgement.
type postgres struct{ address string }

const (
	createTable = "CREATE TABLE IF NOT EXISTS rows (id bigserial PRIMARY KEY, n bigint NOT NULL, " +
		"line text NOT NULL DEFAULT " + currentLine + ")"
	currentLine = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text"
	insertRow   = "INSERT INTO rows (n) VALUES ($1) RETURNING line"
	highestRow  = "SELECT coalesce(max(n), 0) FROM rows WHERE n < $1"
	allRows     = "SELECT n, line FROM rows WHERE n >= $1 AND n < $2 ORDER BY id"
)

// connect opens a connection. Its TCP part is retried quickly, its login is given time, since a server that has just
// started is slow.
func (p postgres) connect(ctx context.Context) (session, error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", p.address))
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = loginTimeout
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
		return d.DialContext(ctx, network, address)
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return postgresSession{c}, nil
}

type postgresSession struct{ *pgx.Conn }

func (c postgresSession) highest(ctx context.Context, below int64) (highest int64, err error) {
	bounded, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	if _, err := c.Exec(bounded, createTable); err != nil {
		return 0, err
	}
	return highest, c.QueryRow(bounded, highestRow, below).Scan(&highest)
}

func (c postgresSession) put(ctx context.Context, number int64) (line string, err error) {
	return line, c.QueryRow(ctx, insertRow, number).Scan(&line)
}

func (c postgresSession) all(ctx context.Context, from, below int64) ([]Row, error) {
	rows, err := c.Query(ctx, allRows, from, below)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Row])
}

func (c postgresSession) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_ = c.Close(ctx) // the connection is given up either way
}
