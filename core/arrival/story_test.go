package arrival

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/store"
)

var began = time.Date(2026, 11, 23, 17, 30, 0, 0, time.Local)

// told is a notice in the journal, so many milliseconds after the beginning.
func told(ms int, step, event, group string) store.Record {
	n := Notice{Step: step, Event: event, Group: group, Server: "apollo", Primary: "rocky",
		At: began.Add(time.Duration(ms) * time.Millisecond)}
	if event != Resumed {
		n.From = "rocky"
	}
	if step != Coming {
		n.Status, n.Drives = OtherLetter, []Drive{{Letter: "G:", Path: "/ors/G", Configured: "E:"}}
	}
	if step == Ran {
		n.Text, n.Run = "it has ended well", &Run{Program: "launch job"}
	}
	return n.Record()
}

func step(ms int, name, text string) store.Record {
	return store.Record{Kind: store.KindStep, Group: "rocky", Step: name, Text: text,
		At: began.Add(time.Duration(ms) * time.Millisecond)}
}

// finished is the end of a batch run.
func finished(ms int) store.Record {
	return store.Record{Kind: store.KindApplication, Group: "rocky", Step: "invoices" + Finished,
		Text: "It has ended with code 0.", At: began.Add(time.Duration(ms) * time.Millisecond)}
}

// TestStories: the page tells of the newest arrival of each group, whatever happened to the agent since.
func TestStories(t *testing.T) {
	up := []store.Record{
		told(-9000, Coming, Start, "rocky"), told(-8000, Up, Start, "rocky"), told(-7000, Left, Start, "rocky"),
		told(0, Coming, Takeover, "rocky"), step(1, "claimed", "The storage is this server's."), told(5, Coming, Start, "other"),
		told(40, Arrived, Takeover, "rocky"), told(50, Ran, "", "rocky"), told(900, Up, Takeover, "rocky"),
		step(950, "later", "Another matter."), finished(2000),
	}
	restarted := slices.Concat(up, []store.Record{told(5000, Coming, Resumed, "rocky"), told(5001, Arrived, Resumed, "rocky"),
		finished(5002)})
	for _, c := range []struct {
		name    string
		records []store.Record
		want    []string
		not     string
	}{
		{"up", up, []string{
			"17:30:00.000  apollo has taken over group rocky from rocky.\n",
			"  result    all protected applications answer, 0.900 s after the storage was this server's\n",
			"  status    1: a drive has another letter than it is configured with\n",
			"  d1        G:  /ors/G  (configured as E:)\n",
			"    +0.001 s  claimed  The storage is this server's.\n",
			"    +2.000 s  invoices finished  It has ended with code 0.\n",
			"  program   launch job: it has ended well\n",
		}, "Another matter"},
		{"mounted only", up[:8], []string{"not complete: the drives are mounted, and not all applications answer"}, "answer,"},
		{"storage only", up[:5], []string{"not complete: the drives are not mounted"}, "d1"},
		{"the agent was restarted since", restarted, []string{"taken over group rocky", "0.900 s after", "+2.000 s  invoices finished"},
			"+5.002 s"},
		{"and the group leaves",
			slices.Concat(restarted, []store.Record{told(6000, Leaving, Resumed, "rocky")}),
			[]string{"is leaving this server"}, "0.900"},
		{"it has left",
			slices.Concat(restarted, []store.Record{told(6000, Left, Resumed, "rocky")}),
			[]string{"has left this server since"}, "0.900"},
		{"nothing older is on record", restarted[len(up):],
			[]string{"Group rocky was on apollo before", "status    1:", "d1        G:"},
			"taken over"},
	} {
		stories := Stories(c.records)
		if len(stories) == 0 || stories[0].Group != "rocky" {
			t.Errorf("%s: %+v", c.name, stories)
			continue
		}
		text := stories[0].Text()
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s:\n%swant %q", c.name, text, w)
			}
		}
		if strings.Contains(text, c.not) {
			t.Errorf("%s:\n%snot wanted: %q", c.name, text, c.not)
		}
	}
	if got := Stories(up); len(got) != 2 || got[1].Group != "other" || got[1].State != Coming {
		t.Errorf("another group: %+v", got)
	}
	if got := Stories([]store.Record{{Kind: store.KindAgent}}); got != nil {
		t.Errorf("nothing has come: %+v", got)
	}
}
