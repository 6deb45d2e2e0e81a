//go:build unix

package control_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
	controlv1 "github.com/orscore/ors/proto/ors/control/v1"
)

// arrive puts a step of a group into the agent's journal.
func (a *agent) arrive(t *testing.T, group, step string) {
	t.Helper()
	n := arrival.Notice{Step: step, Group: group, Server: "apollo", Event: arrival.Takeover, From: "rocky", Primary: "rocky",
		Status: 1, At: time.Now(), Text: "A sentence.",
		Drives: []arrival.Drive{{Letter: "G:", Path: "/ors/G", Configured: "E:"}}}
	r := n.Record()
	if err := a.store.Append(&r); err != nil {
		t.Fatal(err)
	}
}

var errEnough = errors.New("enough")

// TestNotify: a program is registered and visible, is told of its groups only, and what it did is on record once.
func TestNotify(t *testing.T) {
	a := &agent{}
	a.set(func(s *control.Status) { s.Groups = []control.Group{{Name: "rocky"}, {Name: "other"}} })
	c := dial(t, serve(t, a, control.Permission{}))
	a.arrive(t, "rocky", arrival.Arrived) // before it registers
	var got []string
	err := c.Notify(t.Context(), control.Registration{Program: "cache", Groups: []string{"rocky"}},
		func(n arrival.Notice, report control.ReportFunc) error {
			got = append(got, fmt.Sprint(n.Pos, " ", n.Step))
			switch {
			case n.Pos == 1 && n.Step == arrival.Arrived: // it was here before
			case n.Step == control.Registered:
				st, err := c.Status(t.Context())
				if err != nil || len(st.Programs) != 1 || st.Programs[0].Name != "cache" ||
					!slices.Equal(st.Programs[0].Groups, []string{"rocky"}) {
					t.Errorf("while it is registered: %+v, %v", st.Programs, err)
				}
				a.arrive(t, "other", arrival.Arrived)
				a.store.Note(store.Record{Kind: store.KindAgent})
				a.arrive(t, "rocky", arrival.Arrived)
			case n.Step == arrival.Arrived:
				if n.Event != arrival.Takeover || n.From != "rocky" || n.Status != 1 || n.Text != "A sentence." ||
					len(n.Drives) != 1 || n.Drives[0] != (arrival.Drive{Letter: "G:", Path: "/ors/G", Configured: "E:"}) {
					t.Errorf("it was told %+v", n)
				}
				if err := report(control.Report{Group: n.Group, Text: strings.Repeat("ö", 1000), Exit: 3,
					Took: 1500 * time.Millisecond}); err != nil {
					t.Error(err)
				}
			case n.Step == control.Reported: // it is on disk
				a.arrive(t, "rocky", arrival.Leaving)
			case n.Step == arrival.Leaving:
				return errEnough
			}
			return nil
		})
	if want := []string{"1 registered", "1 arrived", "4 arrived", "0 reported", "6 leaving"}; !errors.Is(err, errEnough) ||
		!slices.Equal(got, want) {
		t.Fatalf("told %q, want %q; %v", got, want, err)
	}
	// another one begins behind what it has seen, and hears of no report
	got = nil
	err = c.Notify(t.Context(), control.Registration{Program: "later", After: 2},
		func(n arrival.Notice, _ control.ReportFunc) error {
			got = append(got, fmt.Sprint(n.Pos, " ", n.Step))
			if n.Step == arrival.Leaving {
				return errEnough
			}
			return nil
		})
	if want := []string{"2 registered", "4 arrived", "6 leaving"}; !errors.Is(err, errEnough) || !slices.Equal(got, want) {
		t.Fatalf("the later one was told %q, want %q; %v", got, want, err)
	}
	var ran []arrival.Notice
	records, err := a.store.Read(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if n, ok := arrival.Of(r); ok && n.Step == arrival.Ran {
			ran = append(ran, n)
		}
	}
	if len(ran) != 1 || ran[0].Group != "rocky" || ran[0].Run.Program != "cache" || ran[0].Run.Exit != 3 ||
		ran[0].Run.Took != 1500*time.Millisecond || len(ran[0].Text) > 1010 || !strings.HasSuffix(ran[0].Text, "ö…") {
		t.Errorf("on record: %+v", ran)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		st, err := c.Status(t.Context())
		if err == nil && len(st.Programs) == 0 {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("programs that have gone are still registered: %+v, %v", st.Programs, err)
		}
	}
}

// TestUnknownGroup: who registers for a group that the pair does not have would wait for ever.
func TestUnknownGroup(t *testing.T) {
	a := &agent{}
	a.set(func(s *control.Status) { s.Groups = []control.Group{{Name: "rocky"}, {Name: "apollo"}} })
	c := dial(t, serve(t, a, control.Permission{}))
	err := c.Notify(t.Context(), control.Registration{Program: "cache", Groups: []string{"rocky", "rokcy"}},
		func(arrival.Notice, control.ReportFunc) error { return errEnough })
	if !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), `no group "rokcy"; the pair has: rocky, apollo`) {
		t.Errorf("got %v", err)
	}
}

// TestReportThatComesAgain: a program whose agent has gone before it has answered says everything again.
func TestReportThatComesAgain(t *testing.T) {
	a := &agent{}
	c := dial(t, serve(t, a, control.Permission{}))
	for _, r := range []struct{ program, id string }{
		{"cache", "one"}, {"cache", "one"}, {"cache", "two"}, {"other", "one"}, {"cache", ""}, {"cache", ""},
	} {
		err := c.Notify(t.Context(), control.Registration{Program: r.program},
			func(n arrival.Notice, report control.ReportFunc) error {
				switch n.Step {
				case control.Registered:
					return report(control.Report{ID: r.id, Group: "rocky", Text: "It is done."})
				case control.Reported:
					return errEnough
				}
				return nil
			})
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
	}
	records, err := a.store.Read(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		if n, ok := arrival.Of(r); ok && n.Step == arrival.Ran {
			got = append(got, n.Run.Program+" "+n.Run.ID)
		}
	}
	if want := []string{"cache one", "cache two", "other one", "cache ", "cache "}; !slices.Equal(got, want) {
		t.Errorf("on record: %q, want %q", got, want)
	}
}

// TestExampleIsMadeFromTheProtocol: docs/examples/notify needs nothing of ORS but the generated protocol.
func TestExampleIsMadeFromTheProtocol(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", ".")
	cmd.Dir = "../../docs/examples/notify"
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	ours := slices.DeleteFunc(strings.Fields(string(out)), func(p string) bool {
		return !strings.HasPrefix(p, "github.com/orscore/ors/")
	})
	if !slices.Equal(ours, []string{"github.com/orscore/ors/proto/ors/control/v1"}) {
		t.Errorf("it is built from %q", ours)
	}
}

// TestNotifyNeedsAName: who does not say who it is is refused, with the code that explains it.
func TestNotifyNeedsAName(t *testing.T) {
	socket := serve(t, &agent{}, control.Permission{})
	err := dial(t, socket).Notify(t.Context(), control.Registration{}, func(arrival.Notice, control.ReportFunc) error {
		t.Error("it was registered")
		return nil
	})
	if !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), "ORS-7044") {
		t.Errorf("without a name: %v", err)
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := controlv1.NewControlServiceClient(conn).Notify(t.Context())
	if err == nil {
		err = stream.Send(&controlv1.NotifyRequest{Message: &controlv1.NotifyRequest_Report{Report: &controlv1.Report{}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "ORS-7044") {
		t.Errorf("a report first: %v", err)
	}
	if stream, err = controlv1.NewControlServiceClient(conn).Notify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "it has not said its name") {
		t.Errorf("nothing first: %v", err)
	}
}

// TestNotifyEndsWithItsProgram: a program that goes away takes nothing with it.
func TestNotifyEndsWithItsProgram(t *testing.T) {
	a := &agent{}
	c := dial(t, serve(t, a, control.Permission{}))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Notify(ctx, control.Registration{Program: "cache"}, func(arrival.Notice, control.ReportFunc) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
