//go:build linux

package demo

import (
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
	case rec.Kind == "arbitration":
		return rec.Text
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
	var appStart time.Time
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		if rec.At.After(first.At) {
			break
		}
		at := rec.At
		switch {
		case rec.Kind == "verdict" && rec.Data["verdict"] == "lost":
			out.DetectionMS = ms(rec.At.Sub(r.cut))
			if t, err := time.Parse(time.RFC3339Nano, str(rec.Data["timeout_at"])); err == nil {
				timeout = t
			}
		case rec.Kind == "step" && rec.Group == "rocky" && strings.HasPrefix(rec.Step, "app-start "):
			appStart = rec.At
			// the client may be served before the plugin has seen that it could be
			out.ApplicationMS = ms(first.At.Sub(appStart))
		case rec.Kind == "step" && rec.Group == "rocky" && strings.HasPrefix(rec.Step, "app-up "):
			out.ApplicationMS = ms(rec.At.Sub(appStart))
		}
		if tellsOf(rec) != "" {
			out.Steps = append(out.Steps, Step{AtMS: ms(at.Sub(r.cut)), Name: rec.Kind + " " + rec.Step, Text: tellsOf(rec)})
		}
	}
	out.Steps = append(out.Steps, Step{AtMS: ms(first.At.Sub(r.cut)), Name: "served", Text: "The client is served again."})
	out.OverheadMS = max(0, ms(first.At.Sub(timeout))-out.ApplicationMS)
	return out
}

func str(v any) string {
	s, _ := v.(string)
	return s
}
