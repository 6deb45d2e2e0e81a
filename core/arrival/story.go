package arrival

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/store"
)

// Story is the newest arrival of one group on this server, and what came of it.
type Story struct {
	Group    string         `json:"group"`
	Server   string         `json:"server"`
	Event    string         `json:"event"`
	From     string         `json:"from,omitempty"`
	Primary  string         `json:"primary"`
	Status   uint32         `json:"status"`
	At       time.Time      `json:"at"`     // when the storage was this server's
	State    string         `json:"state"`  // the newest step: coming, arrived, up, leaving, left
	Took     time.Duration  `json:"up_ns"`  // until its applications answered; 0: they have not
	Drives   []Drive        `json:"drives"` // once they were mounted
	Steps    []store.Record `json:"steps"`  // of the group since then, from the journal
	Programs []Notice       `json:"programs"`
}

// Stories tells the newest arrival of each group from the records of a journal; a restart of the agent is none, where
// there is an older one on record.
func Stories(records []store.Record) []Story {
	begin := map[string]int{}
	var groups []string
	for i, r := range records {
		n, ok := Of(r)
		if !ok || n.Step != Coming {
			continue
		}
		if !slices.Contains(groups, n.Group) {
			groups = append(groups, n.Group)
		}
		if _, known := begin[n.Group]; known && n.Event == Resumed {
			continue
		}
		begin[n.Group] = i
	}
	var out []Story
	for _, g := range groups {
		out = append(out, story(records[begin[g]:], g))
	}
	return out
}

// Finished ends the step of an application's record which says that its run is over, as it should be.
const Finished = " finished"

func story(records []store.Record, group string) Story {
	first, _ := Of(records[0])
	s := Story{Group: group, Server: first.Server, Event: first.Event, From: first.From, Primary: first.Primary,
		At: first.At, State: Coming, Drives: []Drive{}, Steps: []store.Record{}, Programs: []Notice{}}
	for _, r := range records {
		if r.Group != group {
			continue
		}
		n, ok := Of(r)
		switch {
		case ok && n.Step == Ran:
			s.Programs = append(s.Programs, n)
		case ok && n.Event == Resumed && first.Event != Resumed: // the agent was restarted since; the story is the same
			if n.Step != Coming && n.Step != Arrived {
				s.State = n.Step
			}
		case ok:
			s.State, s.Status = n.Step, n.Status
			if n.Step == Arrived {
				s.Drives = n.Drives
			}
			if n.Step == Up && s.Took == 0 {
				s.Took = n.At.Sub(s.At)
			}
		case r.Kind == store.KindApplication && strings.HasSuffix(r.Step, Finished):
			if !slices.ContainsFunc(s.Steps, func(o store.Record) bool { return o.Step == r.Step }) { // each agent tells it once
				s.Steps = append(s.Steps, r)
			}
		case s.Took == 0 && (r.Kind == store.KindStep || r.Kind == store.KindApplication || r.Code != ""):
			s.Steps = append(s.Steps, r)
		}
	}
	return s
}

// Text is the page that people read after a switchover.
func (s Story) Text() string {
	var b strings.Builder
	n := Notice{Group: s.Group, Server: s.Server, Event: s.Event, From: s.From, Drives: s.Drives}
	fmt.Fprintf(&b, "%s  %s\n", s.At.Local().Format("2006-01-02 15:04:05.000"), n.Sentence())
	fmt.Fprintf(&b, "  result    %s\n", s.result())
	fmt.Fprintf(&b, "  status    %d: %s\n", s.Status, statusWords(s.Status))
	for i, d := range s.Drives {
		line := fmt.Sprintf("  d%-8d %s  %s", i+1, d.Letter, d.Path)
		if d.Configured != d.Letter {
			line += "  (configured as " + d.Configured + ")"
		}
		b.WriteString(line + "\n")
	}
	for _, r := range s.Steps {
		line := fmt.Sprintf("  %+8.3f s  %s", r.At.Sub(s.At).Seconds(), r.Step)
		if r.Code != "" {
			line += "  " + r.Code
		}
		b.WriteString(line + "  " + r.Text + "\n")
	}
	for _, p := range s.Programs {
		fmt.Fprintf(&b, "  program   %s: %s\n", p.Run.Program, p.Text)
	}
	return b.String()
}

func (s Story) result() string {
	switch {
	case s.State == Up:
		text := "all protected applications answer"
		if s.Took > 0 {
			text += fmt.Sprintf(", %.3f s after the storage was this server's", s.Took.Seconds())
		}
		return text
	case s.State == Arrived:
		return "not complete: the drives are mounted, and not all applications answer"
	case s.State == Coming:
		return "not complete: the drives are not mounted"
	case s.State == Leaving:
		return "the group is leaving this server"
	}
	return "the group has left this server since"
}

func statusWords(status uint32) string {
	var out []string
	if status&OtherLetter != 0 {
		out = append(out, "a drive has another letter than it is configured with")
	}
	if status&Problem != 0 {
		out = append(out, "a drive was mounted with a problem (see the alarms)")
	}
	if len(out) == 0 {
		return "every drive has its own letter"
	}
	return strings.Join(out, ", and ")
}
