//go:build linux

package workload

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// HTTP is a client that asks for a page again and again, each time over a new connection.
type HTTP struct {
	URL  string
	Pace time.Duration
}

// Run asks until ctx ends.
func (h HTTP) Run(ctx context.Context, log *Log) error {
	dial := net.Dialer{KeepAlive: -1}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial.DialContext}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(h.Pace)
	defer tick.Stop()
	for n := int64(1); ctx.Err() == nil; n++ {
		e := Entry{Kind: Served, Number: n}
		if err := h.ask(ctx, client); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			e.Kind, e.Text = Failed, err.Error()
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

func (h HTTP) ask(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return err
	}
	a, err := client.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return err
	}
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", a.Status)
	}
	return nil
}
