package domino

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

// Probe implements sdk.Application. Where restarting is left to Domino, a failure is told in words and counts for
// nothing: a second one who restarts would work against it.
func (a *application) Probe(ctx context.Context, known *sdk.Handle) sdk.Probed {
	// What is asked must fail by itself, before the caller's deadline makes it nothing.
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*9/10)
		defer cancel()
	}
	found := make([]sdk.Probed, len(a.servers))
	var wg sync.WaitGroup
	for i, s := range a.servers {
		wg.Go(func() { found[i] = a.probeOne(ctx, s, known) })
	}
	wg.Wait()
	out := sdk.Probed{Health: sdk.Healthy}
	var texts []string
	for _, p := range found {
		texts = append(texts, p.Detail)
		if p.Health == sdk.Failed || p.Health == sdk.HealthUnknown && out.Health == sdk.Healthy {
			out.Health = p.Health
		}
	}
	out.Detail = strings.Join(texts, " ")
	if out.Health == sdk.Failed && a.config.OnFailure == byDomino && a.started(known) {
		out.Health = sdk.HealthUnknown
		out.Detail += ` Restarting it is left to Domino's fault recovery (on_failure = "domino").`
	}
	return out
}

// started says whether each server was started here, as far as is on record. Domino restarts none that was not.
func (a *application) started(known *sdk.Handle) bool {
	for _, s := range a.servers {
		if st := a.look(s, known); st.State == supervise.Stopped && st.Run == nil {
			return false
		}
	}
	return true
}

func (a *application) probeOne(ctx context.Context, s server, known *sdk.Handle) sdk.Probed {
	st := a.look(s, known)
	switch {
	case st.State == supervise.Unknown:
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: s.Name + ": " + st.Detail}
	case !alive(st):
		return sdk.Probed{Health: sdk.Failed, Detail: s.Name + " has ended. " + st.Detail}
	}
	if !st.Main {
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: s.Name + " is being restarted by Domino, or was: " + st.Detail}
	}
	return a.probeAnswer(ctx, s)
}

// probeAnswer says how healthy a server is that runs, by its answers.
func (a *application) probeAnswer(ctx context.Context, s server) sdk.Probed {
	got := a.ask(ctx, s)
	switch got.state {
	case answersWrong:
		return sdk.Probed{Health: sdk.Failed, Detail: capital(got.text) + "."}
	case answersSilent:
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: got.text}
	case answersNot:
		return sdk.Probed{Health: sdk.Failed, Detail: got.text}
	}
	if s.HTTP != "" {
		if err := askHTTP(ctx, s.HTTP); err != nil {
			health := sdk.HealthUnknown
			if errors.Is(err, errSick) || errors.Is(err, errRefused) {
				health = sdk.Failed
			}
			return sdk.Probed{Health: health, Detail: got.text + " Its HTTP task does not: " + err.Error() + "."}
		}
		got.text += " So does its HTTP task."
	}
	return sdk.Probed{Health: sdk.Healthy, Detail: got.text}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// errSick is an answer of a server that has trouble.
var errSick = errors.New("the answer is an error of the server")

// askHTTP wants any answer but an error of the server: a page behind a login is one.
func askHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// Whose certificate it has is for its clients to say; what it answers behind a bad one counts all the same.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	if end, ok := ctx.Deadline(); ok { // a request that is given up leaves its handshake to end by itself
		transport.TLSHandshakeTimeout = max(time.Until(end), time.Nanosecond)
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%w: %s answered %s", errSick, url, resp.Status)
	}
	return nil
}
