//go:build linux

package workload

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Times of a client. They bound how finely an outage is measured.
const (
	retryPause     = 5 * time.Millisecond
	dialTimeout    = 20 * time.Millisecond // of a TCP connection: we repeat a lost packet, not the kernel after a second
	loginTimeout   = 2 * time.Second
	requestTimeout = time.Second
)

// How long a client waits for one commit. A patient one is still there when a server that was paused comes back, and
// takes down what that has to say.
const (
	commitTimeout  = 400 * time.Millisecond
	patientTimeout = 5 * time.Second
)

// patientBase is where the numbers of patient clients begin, so that both kinds can write to one server.
const patientBase int64 = 1 << 40

// Kinds of servers that keep rows.
const (
	KindPostgres = "postgres"
	KindStore    = "store"
	KindNotes    = "notes"
)

// Rows is a client that commits numbered rows for as long as it runs.
type Rows struct {
	Kind    string // KindPostgres, KindStore, KindNotes
	Address string // host:port; of KindNotes NAME@HOST
	Patient bool
	Pace    time.Duration // between commits
}

// server keeps rows; session is a connection to it. Every call ends with its context.
type server interface {
	connect(ctx context.Context) (session, error)
}

type session interface {
	// highest prepares the server and returns the highest number that it keeps below a limit; 0: none.
	highest(ctx context.Context, below int64) (int64, error)
	// put keeps one number and returns the line of history that has promised it.
	put(ctx context.Context, number int64) (line string, err error)
	// all returns the rows from one number up to below another one, in the order in which they were kept.
	all(ctx context.Context, from, below int64) ([]Row, error)
	// hangUp does not wait for a server that may be gone.
	hangUp()
}

func (r Rows) server() (server, error) {
	switch r.Kind {
	case KindPostgres:
		return postgres{address: r.Address}, nil
	case KindStore:
		return numberStore{address: r.Address}, nil
	case KindNotes:
		return notesServer{address: r.Address}, nil
	}
	return nil, fmt.Errorf("%q keeps no rows; right would be %s, %s or %s", r.Kind, KindPostgres, KindStore, KindNotes)
}

func (r Rows) numbers() (from, below int64) {
	if r.Patient {
		return patientBase, 2 * patientBase
	}
	return 0, patientBase
}

func (r Rows) timeout() time.Duration {
	if r.Patient {
		return patientTimeout
	}
	return commitTimeout
}

// Run commits rows until ctx ends. It uses one connection, and a new one when that breaks. A number whose commit was
// not acknowledged is never used again.
func (r Rows) Run(ctx context.Context, log *Log) error {
	srv, err := r.server()
	if err != nil {
		return err
	}
	var conn session
	defer func() { hangUp(conn) }()
	number, below := r.numbers()
	known := false // whether number is above all rows of former clients
	tick := time.NewTicker(r.Pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		if conn == nil {
			c, err := srv.connect(ctx)
			if err == nil && !known {
				var highest int64
				highest, err = c.highest(ctx, below)
				number, known = max(number, highest), err == nil
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
		bounded, cancel := context.WithTimeout(ctx, r.timeout())
		e.Text, err = conn.put(bounded, number)
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

func hangUp(s session) {
	if s != nil {
		s.hangUp()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Check reads all rows of this client and judges them by the entries of its log, which were read before the call.
func (r Rows) Check(ctx context.Context, entries []Entry) (Verdict, error) {
	wrong := func(err error) (Verdict, error) { return Verdict{}, fmt.Errorf("reading the rows back: %w", err) }
	srv, err := r.server()
	if err != nil {
		return wrong(err)
	}
	conn, err := srv.connect(ctx)
	if err != nil {
		return wrong(err)
	}
	defer conn.hangUp()
	from, below := r.numbers()
	rows, err := conn.all(ctx, from, below)
	if err != nil {
		return wrong(err)
	}
	return Judge(entries, rows), nil
}

// CheckPatiently checks, again when the connection breaks, until ctx ends.
func (r Rows) CheckPatiently(ctx context.Context, entries []Entry) (Verdict, error) {
	for {
		v, err := r.Check(ctx, entries)
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		pause(ctx, 20*retryPause)
		if ctx.Err() != nil {
			return v, errors.Join(err, ctx.Err())
		}
	}
}
