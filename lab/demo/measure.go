//go:build linux

package demo

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/store"
	numbers "github.com/orscore/ors/lab/store"
)

// tellsOf returns what a record of Apollo's journal tells a reader of the demo; empty when it is of no interest here.
func tellsOf(rec store.Record) string {
	switch {
	case rec.Kind == "link" && rec.Step == "silent":
		return rec.Text
	case rec.Kind == "verdict":
		return rec.Text + " " + rec.Why
	case rec.Kind == "step" && rec.Group == "rocky":
		return "rocky: " + stepText(rec)
	}
	return ""
}

func stepText(rec store.Record) string {
	name, app, _ := strings.Cut(rec.Step, " ")
	switch name {
	case "claim":
		return "its storage is claimed at the switch."
	case "app-start":
		return "application " + app + " is being started."
	case "app-up":
		return "application " + app + " answers."
	case "active":
		return "active on apollo."
	}
	return rec.Text
}

// measure splits the outage up by Apollo's journal.
func (r *run) measure(last, first numbers.Ack) *Outcome {
	out := &Outcome{OutageMS: ms(first.At.Sub(last.At))}
	timeout := r.cut
	var appStart, appUp time.Time
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		ours := rec.Kind == "step" && rec.Group == "rocky"
		switch {
		case rec.Kind == "verdict" && rec.Data["verdict"] == "lost":
			out.DetectionMS = ms(rec.At.Sub(r.cut))
			if t, err := time.Parse(time.RFC3339Nano, str(rec.Data["timeout_at"])); err == nil {
				timeout = t
			}
		case ours && strings.HasPrefix(rec.Step, "app-start "):
			appStart = rec.At
		case ours && strings.HasPrefix(rec.Step, "app-up "):
			appUp = rec.At
		}
		if text := tellsOf(rec); text != "" {
			out.Steps = append(out.Steps, Step{AtMS: ms(rec.At.Sub(r.cut)), Name: stepName(rec), Text: text})
		}
	}
	out.Steps = append(out.Steps, Step{AtMS: ms(first.At.Sub(r.cut)), Name: "served", Text: "The client is served again."})
	slices.SortStableFunc(out.Steps, func(a, b Step) int { return cmp.Compare(a.AtMS, b.AtMS) })
	// The client may be served before the plugin has seen that it could be.
	if appUp.IsZero() || appUp.After(first.At) {
		appUp = first.At
	}
	if !appStart.IsZero() {
		out.ApplicationMS = ms(appUp.Sub(appStart))
	}
	out.OverheadMS = ms(first.At.Sub(timeout) - appUp.Sub(appStart))
	return out
}

// stepName is the short name of a record: "verdict", "claim", "app-start store".
func stepName(rec store.Record) string {
	if rec.Kind == "link" {
		return "link " + rec.Step
	}
	return rec.Step
}

func str(v any) string {
	s, _ := v.(string)
	return s
}
