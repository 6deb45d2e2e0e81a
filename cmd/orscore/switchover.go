package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

// lastSwitchovers shows how the groups, or one of them, have come to this server last.
func (a *app) lastSwitchovers(ctx context.Context, out io.Writer, group string, asJSON bool) error {
	records, err := a.journal(ctx)
	if err != nil {
		return err
	}
	stories := []arrival.Story{}
	for _, s := range arrival.Stories(records) {
		if group == "" || s.Group == group {
			stories = append(stories, s)
		}
	}
	if asJSON {
		return printJSON(out, stories)
	}
	if len(stories) == 0 {
		return fmt.Errorf("ORS-7042: no group has come to this server, as far as the journal goes")
	}
	for i, s := range stories {
		text := s.Text()
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(out, cleanLines(text)); err != nil {
			return err
		}
	}
	return nil
}

// journal is all that the agent has on record, or, when there is no agent, what the state directory holds.
func (a *app) journal(ctx context.Context) ([]store.Record, error) {
	var records []store.Record
	none := a.with(ctx, func(c *control.Client) error {
		return c.Events(ctx, control.EventsRequest{}, func(r store.Record) error {
			records = append(records, r)
			return nil
		})
	})
	if !errors.Is(none, control.ErrNoAgent) {
		return records, none
	}
	dir, err := a.stateDir("")
	if err != nil {
		return nil, none
	}
	log, err := store.ReadLog(dir, store.JournalName)
	if err != nil {
		return nil, none
	}
	return log.Records, nil
}
