package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"orscore": main})
}

// TestScripts runs the real program against a real control server; the agent behind that server is scripted.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("LANG", "C.UTF-8")
			e.Values[agentKey{}] = &agent{work: e.WorkDir}
			e.Setenv("SOCKET", filepath.Join(e.WorkDir, "run", "control.sock"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "exits": exits, "await": await, "ledgers": ledgers,
			"decisions": decisions, "arrive": arrive,
		},
		ContinueOnError: true,
	})
}

type agentKey struct{}

// arrive lets the agent tell of a group: `arrive STEP EVENT GROUP FROM`.
func arrive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: arrive STEP EVENT GROUP FROM")
	}
	n := arrival.Notice{Step: args[0], Event: args[1], Group: args[2], Server: "apollo", From: args[3], Primary: args[3],
		At: time.Date(2026, 11, 23, 17, 30, 0, 0, time.UTC)}
	if n.Step != arrival.Coming {
		n.Status = arrival.OtherLetter
		n.Drives = []arrival.Drive{{Letter: "G:", Path: "/ors/G", Configured: "E:"}, {Letter: "H:", Path: "/ors/H", Configured: "H:"}}
	}
	if n.Step == arrival.Up {
		n.At = n.At.Add(1234 * time.Millisecond)
	}
	n.Text = n.Sentence()
	r := n.Record()
	ts.Check(ts.Value(agentKey{}).(*agent).store.Append(&r))
}

// exits runs orscore and asserts its exit code: `exits 3 status --socket x`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	err := ts.Exec("orscore", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("orscore %s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// await waits until a file holds a text: `await FILE TEXT`.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		raw, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(raw), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not hold %q: %q, %v", args[0], args[1], raw, err)
		}
	}
}

// serve starts a control server over the status in a file, until the script ends: `serve STATUS.json`.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve STATUS.json")
	}
	a := ts.Value(agentKey{}).(*agent)
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &a.status))
	st, err := store.Open(filepath.Join(a.work, "state"))
	ts.Check(err)
	a.store = st
	for i, r := range []store.Record{
		{Kind: store.KindAgent, Text: "The agent has started.", Step: "started"},
		{Kind: store.KindGroup, Group: "rocky", Step: "active", Text: "The group is active.", Why: "All applications run."},
		{Kind: store.KindAlarm, Group: "apollo", Code: "ORS-1042", Text: "Blocked \x1b[31m."},
	} {
		r.At = time.Date(2026, 11, 23, 17, i, 0, 0, time.UTC)
		ts.Check(st.Append(&r))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- control.Serve(ctx, ts.Getenv("SOCKET"), control.Permission{}, a, hclog.NewNullLogger())
	}()
	ts.Defer(func() {
		cancel()
		ts.Check(errors.Join(<-done, st.Close()))
	})
	for {
		c, err := control.Dial(ctx, ts.Getenv("SOCKET"))
		if err == nil {
			ts.Check(c.Close())
			return
		}
		select {
		case err := <-done:
			done <- nil
			ts.Fatalf("control server: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// agent is the scripted Backend. Groups move unless they are called stubborn (refused) or broken (returned).
type agent struct {
	control.Broadcast
	store *store.Store
	work  string

	mu     sync.Mutex
	status control.Status
}

func (a *agent) Journal() control.Journal { return a.store }

func (a *agent) Status(context.Context) control.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.status
	st.Groups = slices.Clone(st.Groups)
	return st
}

func (a *agent) Move(ctx context.Context, r control.MoveRequest, step func(control.MoveProgress)) error {
	if r.To == "nowhere" {
		return fmt.Errorf("ORS-1028: %w: there is no server %q", control.ErrRefused, r.To)
	}
	for i, g := range a.Status(ctx).Groups {
		if len(r.Groups) > 0 && !slices.Contains(r.Groups, g.Name) || r.Failback && g.Owner == g.Primary {
			continue
		}
		p := control.MoveProgress{Group: g.Name, Step: "asked", Text: r.Reason}
		step(p)
		p.At, p.Finished = 1234*time.Millisecond, true
		switch {
		case strings.HasPrefix(g.Name, "stubborn"):
			p.Step, p.Code, p.Text = "refused", "ORS-1024", "not agreed"
		case g.Name == "broken":
			p.Step, p.Code, p.Text = "returned", "ORS-1021", "the partner could not mount E:"
		default:
			p.Step, p.Moved, p.Text = "done", true, "the group runs"
			a.give(i)
		}
		step(p)
	}
	return nil
}

// give makes the other server the owner of a group.
func (a *agent) give(i int) {
	a.mu.Lock()
	g := &a.status.Groups[i]
	for _, s := range a.status.Servers {
		if s.Name != g.Owner {
			g.Owner = s.Name
			break
		}
	}
	a.mu.Unlock()
	a.Notify()
}

func (a *agent) Map(_ context.Context, drive string) ([]string, error) {
	if drive == "Z:" {
		return nil, errors.New("ORS-1027: drive \"Z:\" is not mounted on rocky")
	}
	return []string{"E: /ors/E/cpqrsys.rso written"}, nil
}

func (a *agent) Mode(_ context.Context, r control.ModeRequest) (string, error) {
	text := "mode"
	if r.Disabled != nil {
		text += fmt.Sprintf(" disabled=%v", *r.Disabled)
	}
	if r.Maintenance != nil {
		text += fmt.Sprintf(" maintenance=%v", *r.Maintenance)
	}
	return text + " " + r.Reason, nil
}

func (a *agent) UpgradePlugin(_ context.Context, kind string) (string, error) {
	return "plugin " + kind + " is at work", nil
}

func (a *agent) Restart(_ context.Context, r control.RestartRequest) (string, error) {
	return fmt.Sprintf("back within %v %s", r.Within, r.Reason), nil
}

func (a *agent) Clear(_ context.Context, group string) (string, error) {
	if group != "rocky" {
		return "", fmt.Errorf("ORS-1022: there is no group %q in the configuration", group)
	}
	return "rocky: the switch is asked who owns it", nil
}

func (a *agent) Shutdown(_ context.Context, reason string, tell func(string)) error {
	tell("rocky: stopping, " + reason)
	tell("goodbye said")
	return nil
}

// TestManual keeps docs/cli.md the same as what the program says of itself.
func TestManual(t *testing.T) {
	var b strings.Builder
	b.WriteString("# orscore: commands\n\n" +
		"This page is made from the program's own help by `go test ./cmd/orscore -update`.\n")
	root := newRoot()
	manual(&b, root)
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			manual(&b, c)
			for _, sub := range c.Commands() {
				manual(&b, sub)
			}
		}
	}
	path := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != b.String() {
		t.Errorf("%s is not what the program says; `go test ./cmd/orscore -update` writes it anew", path)
	}
}

func manual(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n", c.CommandPath(), c.Short)
	if c.Runnable() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", c.UseLine())
	}
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", c.Long)
	}
	var flags []string
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		kind, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind != "" {
			name += " " + kind
		}
		if d := f.DefValue; d != "" && d != "false" && d != "0" {
			text += "; default " + d
		}
		flags = append(flags, fmt.Sprintf("| `%s` | %s |\n", name, text))
	})
	if len(flags) > 0 {
		b.WriteString("\n| flag | |\n|---|---|\n" + strings.Join(flags, ""))
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
}
