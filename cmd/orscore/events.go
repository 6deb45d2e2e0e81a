package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/store"
)

// eventsWanted is what the flags of `orscore events` ask for.
type eventsWanted struct {
	follow bool
	last   int
	group  string
	since  time.Time
	json   bool
}

func (a *app) eventsCommand() *cobra.Command {
	var w eventsWanted
	var since string
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what happened on this server, and why",
		Long: `Show the journal of this server's agent: verdicts with their evidence, decisions
with their rule, each step of each move. Times are this server's.`,
		Example: "  orscore events --last 20\n  orscore events --since 1h --group rocky\n  orscore events --follow --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if w.since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			if w.last < 0 {
				return usage("--last is %d, wanted 0 (all) or more", w.last)
			}
			if since != "" && !c.Flags().Changed("last") {
				w.last = 0
			}
			err = a.with(c.Context(), func(cl *control.Client) error { return w.print(c.Context(), cl, c.OutOrStdout()) })
			if w.follow {
				return unlessInterrupted(err)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&w.follow, "follow", "f", false, "go on with new events")
	c.Flags().IntVarP(&w.last, "last", "n", 50, "only the newest `N`; 0: all that are kept")
	c.Flags().StringVar(&since, "since", "",
		"only those after a `time`: 10m, 2h, 2026-11-23, \"2026-11-23 17:37:05\" or RFC 3339")
	c.Flags().StringVar(&w.group, "group", "", "only those of one `group`")
	c.Flags().BoolVar(&w.json, "json", false, "print one JSON object a line")
	return c
}

// parseSince reads a duration before now, or a point in time in the local zone.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("--since is %q, wanted such as 10m, 2h, 2026-11-23 or \"2026-11-23 17:37:05\"", text)
}

func (w *eventsWanted) wants(r store.Record) bool {
	return (w.group == "" || r.Group == w.group) && !r.At.Before(w.since)
}

// print shows the stored records, then follows where that is asked.
func (w *eventsWanted) print(ctx context.Context, c *control.Client, out io.Writer) error {
	filtered := w.group != "" || !w.since.IsZero()
	r := control.EventsRequest{Last: w.last}
	if filtered {
		r.Last = 0 // the newest ones of those that are wanted can be told here only
	}
	var kept []store.Record
	err := c.Events(ctx, r, func(rec store.Record) error {
		r.After = rec.Pos
		if w.wants(rec) {
			kept = append(kept, rec)
			if w.last > 0 && len(kept) > w.last {
				kept = kept[1:]
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, rec := range kept {
		if err := w.printOne(out, rec); err != nil {
			return err
		}
	}
	if !w.follow {
		return nil
	}
	return c.Events(ctx, control.EventsRequest{After: r.After, Follow: true}, func(rec store.Record) error {
		if !w.wants(rec) {
			return nil
		}
		return w.printOne(out, rec)
	})
}

func (w *eventsWanted) printOne(out io.Writer, r store.Record) error {
	if w.json {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := fmt.Fprintln(out, eventLine(r))
	return err
}

// eventLine is a record for people; Data is for programs.
func eventLine(r store.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %6d  %-11s", r.At.Local().Format("2006-01-02 15:04:05.000"), r.Pos, r.Kind)
	for _, part := range []string{r.Group, r.Step, r.Code, r.Text} {
		if part != "" {
			b.WriteString("  " + part)
		}
	}
	if r.Why != "" {
		b.WriteString("  (" + r.Why + ")")
	}
	return screen.Clean(b.String())
}
