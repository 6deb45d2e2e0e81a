package generic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

// firstPause is the pause after the first attempt of a check during a start; it doubles up to the check's interval.
const firstPause = 2 * time.Millisecond

// awaitReady returns when all checks have passed, and with an error when the program ends before or the time is over.
// The checks are awaited one after the other, in their order: what the last of them waits for is the same either way.
func (a *application) awaitReady(ctx context.Context, run *supervise.Run, u *supervise.User, progress sdk.Progress,
) error {
	for i, c := range a.config.Check {
		began, rise := time.Now(), 0
		var last error
		for pause := firstPause; rise < c.Rise; pause = min(2*pause, max(lasting(c.Interval), firstPause)) {
			st := run.Status()
			if !a.serving(st) && !a.finished(st) && !a.ending(st) {
				return a.ended(st)
			}
			if last = a.attempt(ctx, c, u); last == nil {
				rise++
			} else {
				rise = 0
			}
			if rise == c.Rise {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("check[%d] %q did not pass within the time for the start: %w (last: %w)",
					i, c.Type, ctx.Err(), orNone(last))
			case <-time.After(pause):
			}
		}
		progress("check "+c.Type, fmt.Sprintf("Check %d passed after %d ms.", i+1, time.Since(began).Milliseconds()))
	}
	return nil
}

var errNone = errors.New("no attempt failed")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// attempt runs one check once.
func (a *application) attempt(ctx context.Context, c check, u *supervise.User) error {
	ctx, cancel := context.WithTimeout(ctx, lasting(c.Timeout))
	defer cancel()
	switch c.Type {
	case "tcp":
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	case "http":
		return attemptHTTP(ctx, c)
	default:
		out, err := supervise.Command{
			Argv: c.Command, Env: a.environment(u), Cwd: a.config.WorkingDirectory, User: u,
		}.Run(ctx)
		if err != nil && out != "" {
			return fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
}

func attemptHTTP(ctx context.Context, c check) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, mebibyte))
	if c.Status != 0 && resp.StatusCode != c.Status || c.Status == 0 && (resp.StatusCode < 200 || resp.StatusCode > 399) {
		return fmt.Errorf("%s answered %s", c.URL, resp.Status)
	}
	return nil
}

// Probe implements sdk.Application. A check that ran out of time while this process itself was not scheduled says
// nothing of the program.
func (a *application) Probe(ctx context.Context, known *sdk.Handle) sdk.Probed {
	st := a.look(known)
	switch {
	case st.State == supervise.Unknown:
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: st.Detail}
	case a.finished(st):
		return sdk.Probed{Health: sdk.Healthy, Finished: st.State == supervise.Stopped, Detail: st.Detail}
	case preparing(st):
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: st.Detail}
	case a.ending(st):
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: st.Detail + " How it ended is not on record yet."}
	case !a.serving(st):
		return sdk.Probed{Health: sdk.Failed, Detail: a.ended(st).Error(), Ended: st.State == supervise.Stopped}
	case a.config.Mode == modeBatch && len(a.config.Check) == 0:
		return sdk.Probed{Health: sdk.Healthy, Detail: st.Detail}
	}
	user, err := a.user()
	if err != nil {
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: err.Error()}
	}
	// A check that outlasts the probe must still fail by itself, before the caller's deadline makes it nothing.
	most := time.Hour
	if end, ok := ctx.Deadline(); ok {
		most = time.Until(end) * 9 / 10
	}
	attempts, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	meter := startLagMeter()
	errs := a.attemptAll(attempts, user)
	late := meter.stop()
	probed := sdk.Probed{Health: sdk.Healthy, Detail: st.Detail}
	for i, err := range errs {
		if err == nil {
			continue
		}
		text := fmt.Sprintf("Check %d (%s) failed: %v.", i+1, a.config.Check[i].Type, err)
		if errors.Is(err, supervise.ErrHeld) {
			text += " It says nothing of the program."
			if probed.Health == sdk.Healthy {
				probed = sdk.Probed{Health: sdk.HealthUnknown, Detail: text}
			}
			continue
		}
		limit := min(lasting(a.config.Check[i].Timeout), most)
		if timedOut(err) && (late > limit/4 || ctx.Err() != nil) {
			text += fmt.Sprintf(" It says nothing: this server was late by %v itself, or the probe was cut short.", late)
			if probed.Health == sdk.Healthy {
				probed = sdk.Probed{Health: sdk.HealthUnknown, Detail: text}
			}
			continue
		}
		return sdk.Probed{Health: sdk.Failed, Detail: text}
	}
	if probed.Health == sdk.Healthy && len(errs) > 0 {
		probed.Detail += fmt.Sprintf(" Checks passed: %d.", len(errs))
	}
	return probed
}

// attemptAll runs all checks at once.
func (a *application) attemptAll(ctx context.Context, u *supervise.User) []error {
	errs := make([]error, len(a.config.Check))
	var wg sync.WaitGroup
	for i, c := range a.config.Check {
		wg.Go(func() { errs[i] = a.attempt(ctx, c, u) })
	}
	wg.Wait()
	return errs
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &ne) && ne.Timeout()
}

// lagMeter measures by how much this process is scheduled late.
type lagMeter struct {
	quit chan struct{}
	late chan time.Duration
}

const lagTick = 10 * time.Millisecond

func startLagMeter() *lagMeter {
	m := &lagMeter{quit: make(chan struct{}), late: make(chan time.Duration, 1)}
	go func() {
		var total time.Duration
		for last := time.Now(); ; {
			ends := false
			select {
			case <-m.quit:
				ends = true
			case <-time.After(lagTick):
			}
			now := time.Now()
			if d := now.Sub(last) - 2*lagTick; d > 0 {
				total += d
			}
			if last = now; ends { // the lateness that made a check late may not be over before the check is
				m.late <- total
				return
			}
		}
	}()
	return m
}

// stop ends the measurement and returns the sum of all lateness.
func (m *lagMeter) stop() time.Duration {
	close(m.quit)
	return <-m.late
}
