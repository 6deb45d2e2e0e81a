//go:build linux

// Package demo shows ORS at work on one machine, without root: a pair, a client that writes all the time, a server
// that is cut off and comes back.
//
// It must never leave a process or a file behind, and never call a run good in which an acknowledged write is missing.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
	numbers "github.com/orscore/ors/lab/store"
)

// Options of a run.
type Options struct {
	Bin    string // folder of orscore, orslab and ors-plugin-generic
	JSON   string // file for the outcome; empty: none
	Screen *Screen
}

// Step is one thing that happened after Rocky was cut off.
type Step struct {
	AtMS float64 `json:"at_ms"` // since the cut
	Name string  `json:"name"`
	Text string  `json:"text"`
}

// Outcome is what a run measured. Times are in milliseconds.
type Outcome struct {
	OutageMS      float64 `json:"outage_ms"`            // seen by the client: last write before the cut to first one after
	DetectionMS   float64 `json:"detection_ms"`         // cut to verdict
	OverheadMS    float64 `json:"overhead_ms"`          // end of the time-out to first write, less the application's start
	ApplicationMS float64 `json:"application_ms"`       // the application's own start
	MoveOutageMS  float64 `json:"switchover_outage_ms"` // seen by the client: the planned move home
	Acknowledged  int     `json:"acknowledged"`
	Lost          int     `json:"lost"`
	FailedBack    bool    `json:"failed_back"`
	Steps         []Step  `json:"steps"`
}

// run is one run of the demo.
type run struct {
	o      Options
	s      *Screen
	pair   *pair
	client *numbers.Client
	apollo *control.Client
	rocky  *control.Client

	mu      sync.Mutex
	records []store.Record // of Apollo, since the cut
	cut     time.Time
	quiet   bool // records are not shown any more
}

// Run shows the demo. Its error says what was not as it should be, or why ctx was ended.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	if o.JSON != "" { // that of an earlier run must not be taken for this one's
		if err := os.Remove(o.JSON); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Screen.gone = cancel
	r := &run{o: o, s: o.Screen}
	var err error
	if r.pair, err = newPair(o.Bin); err != nil {
		return nil, err
	}
	out, err := r.play(ctx)
	ended := context.Cause(ctx)
	if ended == nil && err != nil {
		err = r.withLogs(err)
	}
	switch e := r.pair.close(); {
	case e != nil:
		err = errors.Join(ended, err, fmt.Errorf("cleaning up %s: %w", r.pair.Dir, e))
	case ended != nil:
		err = fmt.Errorf("%w; everything is cleaned up", ended)
	}
	return out, err
}

func (r *run) play(ctx context.Context) (*Outcome, error) {
	if err := r.up(ctx); err != nil {
		return nil, err
	}
	defer func() { _ = r.apollo.Close() }()
	writing, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Add(2)
	go func() { defer background.Done(); r.client.Run(writing) }()
	go func() { defer background.Done(); r.follow(writing) }()
	out, err := r.story(ctx)
	stop()
	background.Wait()
	if err != nil {
		return out, err
	}
	err = r.judge(ctx, out)
	if r.o.JSON != "" {
		err = errors.Join(err, writeJSON(r.o.JSON, out))
	}
	return out, err
}

// withLogs puts the ends of the logs under an error: they are removed.
func (r *run) withLogs(err error) error {
	for _, name := range []string{
		"cable.log", "rocky.log", "rocky/log/plugin-generic.log", "apollo.log", "apollo/log/plugin-generic.log",
	} {
		if raw, e := os.ReadFile(filepath.Join(r.pair.Dir, name)); e == nil && len(raw) > 0 {
			const end = 3000
			err = fmt.Errorf("%w\n--- end of %s:\n%s", err, name, raw[max(0, len(raw)-end):])
		}
	}
	return err
}

// up builds the pair and waits until it is as it should be.
func (r *run) up(ctx context.Context) error {
	p := r.pair
	r.s.Say("Two servers on this machine, rocky and apollo, each with an application of its")
	r.s.Say("own: a serial line of %d baud and a UDP link between them, storage that can", p.Baud)
	r.s.Say("be switched, one configuration for both. No root is needed.")
	r.s.Gap()
	if err := p.startCable(ctx); err != nil {
		return err
	}
	for _, name := range []string{"rocky", "apollo"} {
		if err := p.startAgent(name); err != nil {
			return err
		}
	}
	var err error
	if r.rocky, err = p.client(ctx, "rocky"); err != nil {
		return err
	}
	defer func() { _ = r.rocky.Close() }()
	if r.apollo, err = p.client(ctx, "apollo"); err != nil {
		return err
	}
	return r.normal(ctx)
}

// normal waits until both servers see the pair as it should be.
func (r *run) normal(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = r.apollo.Close()
		}
	}()
	p := r.pair
	r.client = &numbers.Client{Address: p.Groups[0].Address, Pace: time.Millisecond}
	var sentence string
	for server, c := range map[string]*control.Client{"rocky": r.rocky, "apollo": r.apollo} {
		err := await(ctx, c, server+" sees the pair in its normal state", func(st control.Status) bool {
			sentence = st.Sentence
			return st.Normal && st.Agreed && phaseOf(st, server) == "Active"
		})
		if err != nil {
			return err
		}
	}
	r.s.Good("%s", sentence)
	return nil
}

func phaseOf(st control.Status, group string) string {
	for i := range st.Groups {
		if st.Groups[i].Name == group {
			return st.Groups[i].Phase
		}
	}
	return ""
}

// await waits, within 20 s, until a server's status is as it should be.
func await(ctx context.Context, c *control.Client, what string, good func(control.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var last control.Status
	for {
		st, err := c.Status(ctx)
		if err == nil && good(st) {
			return nil
		}
		if err == nil {
			last = st
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("not seen within 20 s: %s; seen: %s alarms %v", what, last.Sentence, last.Alarms)
		}
	}
}

// follow shows Apollo's journal as it is written, from the cut on.
func (r *run) follow(ctx context.Context) {
	_ = r.apollo.Events(ctx, control.EventsRequest{Last: 1, Follow: true}, func(rec store.Record) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.cut.IsZero() || rec.At.Before(r.cut) {
			return nil
		}
		r.records = append(r.records, rec)
		if text := tellsOf(rec); text != "" && !r.quiet {
			r.s.Event(rec.At.Sub(r.cut), text)
		}
		return nil
	})
}

// story lets it happen: cut, takeover, return, failback.
func (r *run) story(ctx context.Context) (*Outcome, error) {
	if err := r.awaitWrites(ctx, 200); err != nil {
		return nil, err
	}
	r.s.Say("A client writes to rocky's application all the time: %d writes acknowledged.", len(r.client.Acked()))
	r.s.Gap()
	r.mu.Lock()
	r.cut = time.Now()
	r.mu.Unlock()
	count, err := r.pair.cutOff("rocky")
	if err != nil {
		return nil, err
	}
	r.s.Bad("ROCKY IS CUT OFF: SIGKILL to its agent, plugins and applications (%d processes)", count)
	if err := await(ctx, r.apollo, "apollo runs rocky's group", func(st control.Status) bool {
		return phaseOf(st, "rocky") == "Active"
	}); err != nil {
		return nil, err
	}
	if err := r.awaitWrites(ctx, len(r.client.Acked())+1); err != nil {
		return nil, err
	}
	last, first := numbers.Longest(r.client.Acked(), r.cut.Add(-time.Second), time.Now())
	if err := r.awaitActive(ctx); err != nil {
		return nil, err
	}
	r.s.Good("The client is served again, by apollo, %.3f s after the cut.", first.At.Sub(r.cut).Seconds())
	r.s.Gap()
	if err := r.awaitWrites(ctx, len(r.client.Acked())+200); err != nil {
		return nil, err
	}
	out := r.measure(last, first)
	return out, r.home(ctx, out)
}

// awaitActive waits until Apollo's journal has told the end of the takeover: it may be behind the client.
func (r *run) awaitActive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		r.mu.Lock()
		told := slices.ContainsFunc(r.records, func(rec store.Record) bool {
			return rec.Kind == "step" && rec.Group == "rocky" && rec.Step == "active"
		})
		r.mu.Unlock()
		if told {
			return nil
		}
		if !pause(ctx, 5*time.Millisecond) {
			return errors.New("apollo's journal does not tell of the takeover's end within 10 s")
		}
	}
}

// awaitWrites waits until so many writes are acknowledged.
func (r *run) awaitWrites(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for len(r.client.Acked()) < n {
		if !pause(ctx, 5*time.Millisecond) {
			return errors.New("the client is not served within 20 s")
		}
	}
	return nil
}

// home brings Rocky back and the group home.
func (r *run) home(ctx context.Context, out *Outcome) error {
	back := time.Now()
	if err := r.pair.startAgent("rocky"); err != nil {
		return err
	}
	rocky, err := r.pair.client(ctx, "rocky")
	if err != nil {
		return err
	}
	defer func() { _ = rocky.Close() }()
	if err := await(ctx, rocky, "rocky waits for its storage", func(st control.Status) bool {
		return phaseOf(st, "rocky") == "Standby" && st.Normal && st.Agreed
	}); err != nil {
		return err
	}
	if err := r.startedNothing(ctx, rocky, back); err != nil {
		return err
	}
	r.s.Good("Rocky is back: it waits for its storage and starts nothing.")
	r.s.Gap()
	r.mu.Lock()
	r.quiet = true // the command tells
	r.mu.Unlock()
	from := time.Now()
	if err := r.failback(ctx); err != nil {
		return err
	}
	if err := r.awaitWrites(ctx, len(r.client.Acked())+200); err != nil {
		return err
	}
	last, first := numbers.Longest(r.client.Acked(), from, time.Now())
	out.MoveOutageMS = ms(first.At.Sub(last.At))
	if err := await(ctx, rocky, "rocky runs its group", func(st control.Status) bool {
		out.FailedBack = phaseOf(st, "rocky") == "Active"
		return out.FailedBack && st.Normal
	}); err != nil {
		return err
	}
	r.s.Good("The group is home again. Its client waited %.0f ms.", out.MoveOutageMS)
	return nil
}

// startedNothing is the proof that a server which came back has left its group alone: neither its journal nor its
// processes know of a start.
func (r *run) startedNothing(ctx context.Context, c *control.Client, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var started []string
	err := c.Events(ctx, control.EventsRequest{Last: 1000}, func(rec store.Record) error {
		step, _, _ := strings.Cut(rec.Step, " ")
		if rec.At.After(since) && rec.Kind == "step" && rec.Group == "rocky" &&
			slices.Contains([]string{"claim", "claimed", "attached", "app-start"}, step) {
			started = append(started, rec.Step)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading rocky's journal: %w", err)
	}
	lines, err := r.pair.programsOf("rocky")
	if err != nil {
		return err
	}
	for _, l := range lines {
		if strings.Contains(l, " store --data ") {
			started = append(started, l)
		}
	}
	if len(started) > 0 {
		return fmt.Errorf("rocky came back and did not wait for its storage: %q", started)
	}
	return nil
}

// failback brings the group home with the command that an operator would use, and shows the table
// in which its answer ends.
func (r *run) failback(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r.s.Say("$ orscore failback rocky")
	said, err := r.pair.orscore(ctx, "rocky", "failback", "rocky")
	if err != nil {
		return fmt.Errorf("orscore failback rocky: %w\n%s", err, said)
	}
	if _, table, ok := strings.Cut(said, "\n\n"); ok { // above it are the steps, as the journal has them
		said = table
	}
	for l := range strings.Lines(said) {
		r.s.Quote(strings.TrimRight(l, " \n"))
	}
	return nil
}

// judge reads every number back and says whether the run was good.
func (r *run) judge(ctx context.Context, out *Outcome) error {
	kept, err := numbers.Read(ctx, r.pair.Groups[0].Address)
	if err != nil {
		return fmt.Errorf("reading the numbers back: %w", err)
	}
	acked := r.client.Acked()
	missing := numbers.Missing(acked, kept)
	out.Acknowledged, out.Lost = len(acked), len(missing)
	r.s.Gap()
	r.s.Timeline(out)
	r.s.Gap()
	switch {
	case out.Lost > 0:
		r.s.Bad("%d of %d acknowledged writes are MISSING: %v", out.Lost, out.Acknowledged, missing[:min(10, len(missing))])
		return fmt.Errorf("%d acknowledged writes are missing", out.Lost)
	case !out.FailedBack:
		return errors.New("the group did not come home")
	case out.OutageMS <= 0 || out.DetectionMS <= 0 || out.ApplicationMS <= 0:
		return errors.New("the outage or one of its steps was not seen, so nothing was measured")
	}
	r.s.Good("%d writes were acknowledged, and every one of them is there.", out.Acknowledged)
	return nil
}

func writeJSON(path string, out *Outcome) error {
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// ms are milliseconds, to the microsecond.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
