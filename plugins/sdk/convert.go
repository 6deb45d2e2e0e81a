package sdk

import pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"

func handle(h *pluginv1.Handle) *Handle {
	if h == nil || len(h.GetState()) == 0 && h.GetVersion() == 0 {
		return nil
	}
	return &Handle{Version: h.GetVersion(), State: h.GetState()}
}

func protoHandle(h *Handle) *pluginv1.Handle {
	if h == nil {
		return nil
	}
	return &pluginv1.Handle{Version: h.Version, State: h.State}
}

func drives(ds []*pluginv1.Drive) []Drive {
	var out []Drive
	for _, d := range ds {
		out = append(out, Drive{Letter: d.GetLetter(), Path: d.GetPath(), Configured: d.GetConfiguredLetter()})
	}
	return out
}

func arrival(a *pluginv1.Arrival) Arrival {
	return Arrival{Event: a.GetEvent(), From: a.GetFrom(), Status: a.GetStatus(), Attempt: a.GetAttempt()}
}

func problems(ps []Problem) []*pluginv1.Problem {
	var out []*pluginv1.Problem
	for _, p := range ps {
		sev := pluginv1.Problem_SEVERITY_ERROR
		if p.Severity == Warning {
			sev = pluginv1.Problem_SEVERITY_WARNING
		}
		out = append(out, &pluginv1.Problem{Severity: sev, Attribute: p.Attribute, Summary: p.Summary, Detail: p.Detail})
	}
	return out
}

// runState maps what a plugin did not set to unknown, never to stopped.
func runState(s RunState) pluginv1.RunState {
	switch s {
	case Running:
		return pluginv1.RunState_RUN_STATE_RUNNING
	case Stopped:
		return pluginv1.RunState_RUN_STATE_STOPPED
	default:
		return pluginv1.RunState_RUN_STATE_UNKNOWN
	}
}

func health(h Health) pluginv1.Health {
	switch h {
	case Healthy:
		return pluginv1.Health_HEALTH_OK
	case Failed:
		return pluginv1.Health_HEALTH_FAILED
	default:
		return pluginv1.Health_HEALTH_UNKNOWN
	}
}
