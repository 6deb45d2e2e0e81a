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
	got := a.ask(ctx, s)
	switch got.state {
	case answersWrong:
		return sdk.Probed{Health: sdk.Failed, Detail: capital(got.text) + "."}
	case answersSilent:
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: got.text}
	case answersNot:
		if ctx.Err() != nil {
			return sdk.Probed{Health: sdk.HealthUnknown, Detail: got.text}
		}
		return sdk.Probed{Health: sdk.Failed, Detail: got.text}
	}
	if s.HTTP != "" {
		if err := askHTTP(ctx, s.HTTP); err != nil {
			health := sdk.Failed
			if ctx.Err() != nil {
				health = sdk.HealthUnknown
			}
			return sdk.Probed{Health: health, Detail: got.text + " Its HTTP task does not: " + err.Error() + "."}
		}
		got.text += " So does its HTTP task."
	}
	return sdk.Probed{Health: sdk.Healthy, Detail: got.text}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// askHTTP wants any answer but an error of the server: a page behind a login is one.
func askHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if invalid := new(tls.CertificateVerificationError); errors.As(err, &invalid) {
		return nil // it answers; whose certificate it has is for its clients to say
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return nil
}
