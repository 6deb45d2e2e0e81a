package node

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/drive"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// arrive tells the next step of the group's arrival, or of its leave, to the journal and so to registered programs.
func (w *groupWorker) arrive(step, text string) {
	was := w.n.view.Arrival(w.index).Step
	n, ok := w.n.view.Arrive(w.index, step, func(n *arrival.Notice) {
		n.At, n.Text = time.Now(), text
		if was == arrival.Leaving && step == arrival.Arrived {
			n.Event, n.From = arrival.Returned, ""
		}
		if step == arrival.Arrived {
			n.Drives, n.Status = w.arrivedDrives()
			n.Text = fmt.Sprintf("%s Drives: %s.", n.Sentence(), n.Letters())
		}
	})
	if ok {
		w.n.record(n.Record())
	}
}

// arrivedDrives are the drives as mounted, and what is not as it should be with them.
func (w *groupWorker) arrivedDrives() (out []arrival.Drive, status uint32) {
	configured := w.n.cfg.ExpectedDrives(w.cfg)
	for i, m := range w.mounted {
		d := arrival.Drive{Letter: m.Letter, Path: m.Path}
		if i < len(configured) {
			d.Configured = configured[i].ConfiguredLetter
		}
		if d.Configured != d.Letter {
			status |= arrival.OtherLetter
		}
		for _, p := range m.Problems {
			if p.Code != drive.CodeMoved {
				status |= arrival.Problem
			}
		}
		out = append(out, d)
	}
	return out, status
}

// arrived is what a plugin is told of how the group came; nil where it is not here.
func (p *app) arrived() *pluginv1.Arrival {
	n := p.w.n.view.Arrival(p.w.index)
	switch n.Step {
	case arrival.Arrived, arrival.Up, arrival.Leaving:
		return &pluginv1.Arrival{Event: n.Event, From: n.From, Status: n.Status}
	}
	return nil
}

// attempt counts the starts since the group came.
func (p *app) attempt() uint32 {
	if op := p.w.n.view.Arrival(p.w.index).Op; op != p.cameBy {
		p.cameBy, p.attempts = op, 0
	}
	p.attempts++
	return p.attempts
}

// logFile is where the output of the application's processes goes, unless its configuration says otherwise.
func (p *app) logFile() string {
	return LogFile(p.w.n.o.LogDir, p.w.cfg.Name, p.cfg.Name)
}

// LogFile is where the output of an application goes: a file below the agent's log_dir.
func LogFile(logDir, group, application string) string {
	return filepath.Join(logDir, group, application+".log")
}
