package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
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
	kinds  []string
	since  time.Time
	json   bool
	dir    string
}

func (a *app) eventsCommand() *cobra.Command {
	var w eventsWanted
	var since string
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what happened on this server, and why",
		Long: `Show the journal of this server's agent: verdicts with their evidence, decisions
with their rule, each step of each move. Times are this server's. What stands in
brackets at the end of a line is the ID of a decision: "orscore why ID" tells more.

Without a running agent, and with --state-dir, the journal is read from the state
directory; that needs root or the agent's user, and cannot be followed.`,
		Example: "  orscore events --last 20\n  orscore events --kind verdict,alarm\n" +
			"  orscore events --since 1h --group rocky\n  orscore events --follow --json",
		Args: noArgs,
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
			if err := w.checkKinds(); err != nil {
				return err
			}
			err = a.events(c, &w)
			if w.follow {
				return unlessInterrupted(err)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&w.follow, "follow", "f", false, "go on with new events")
	c.Flags().IntVarP(&w.last, "last", "n", 50, "only the newest `N`; 0: all that are kept")
	c.Flags().StringVar(&since, "since", "",
		"only those after a `time`: 10m, 2h, 3d, 2026-11-23, \"2026-11-23 17:37:05\" or RFC 3339")
	c.Flags().StringVar(&w.group, "group", "", "only those of one `group`")
	c.Flags().StringSliceVar(&w.kinds, "kind", nil, "only those of these `kinds`: "+strings.Join(store.Kinds, ", "))
	c.Flags().StringVar(&w.dir, "state-dir", "", "`folder` to read the journal from, instead of asking the agent")
	c.Flags().BoolVar(&w.json, "json", false, "print one JSON object a line")
	return c
}

// checkKinds refuses kinds that there are not.
func (w *eventsWanted) checkKinds() error {
	for _, k := range w.kinds {
		if !slices.Contains(store.Kinds, k) {
			return usage("--kind is %q, wanted some of %s", k, strings.Join(store.Kinds, ", "))
		}
	}
	return nil
}

// events asks the agent for its journal; when there is none, or that is asked for, the state directory.
func (a *app) events(c *cobra.Command, w *eventsWanted) error {
	if w.dir == "" {
		none := a.with(c.Context(), func(cl *control.Client) error { return w.print(c.Context(), cl, c.OutOrStdout()) })
		if !errors.Is(none, control.ErrNoAgent) || w.follow {
			return none
		}
		dir, err := a.stateDir("")
		if err != nil {
			return none
		}
		if _, err := store.ReadLog(dir, store.JournalName); err != nil {
			return none
		}
		w.dir = dir
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "orscore: no agent answers; this is the journal in %s\n", screen.Clean(dir))
	} else if w.follow {
		return usage("--follow needs a running agent, so it does not go with --state-dir")
	}
	return w.printStored(c.OutOrStdout(), c.ErrOrStderr())
}

// printStored shows the records of a state directory.
func (w *eventsWanted) printStored(out, warn io.Writer) error {
	log, err := store.ReadLog(w.dir, store.JournalName)
	if err != nil {
		return err
	}
	for _, text := range log.Damaged {
		_, _ = fmt.Fprintln(warn, "orscore: "+screen.Clean(text))
	}
	var kept []store.Record
	for _, r := range log.Records {
		if w.wants(r) {
			kept = append(kept, r)
		}
	}
	if w.last > 0 && len(kept) > w.last {
		kept = kept[len(kept)-w.last:]
	}
	for _, r := range kept {
		if err := w.printOne(out, r); err != nil {
			return err
		}
	}
	return nil
}

// parseSince reads a duration before now, or a point in time in the local zone.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if days, err := strconv.ParseUint(strings.TrimSuffix(text, "d"), 10, 16); err == nil && strings.HasSuffix(text, "d") {
		return now.AddDate(0, 0, -int(days)), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("--since is %q, wanted such as 10m, 2h, 3d, 2026-11-23 or \"2026-11-23 17:37:05\"", text)
}

func (w *eventsWanted) wants(r store.Record) bool {
	return (w.group == "" || r.Group == w.group) && (len(w.kinds) == 0 || slices.Contains(w.kinds, r.Kind)) &&
		!r.At.Before(w.since)
}

// print shows the stored records, then follows where that is asked.
func (w *eventsWanted) print(ctx context.Context, c *control.Client, out io.Writer) error {
	filtered := w.group != "" || len(w.kinds) > 0 || !w.since.IsZero()
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
	if r.ID != "" {
		b.WriteString("  [" + r.ID + "]")
	}
	return screen.Clean(b.String())
}
