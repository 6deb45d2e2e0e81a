//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/scenario"
)

const (
	defaultLab      = "lab" // name of the lab of up, status, do, exec and down
	defaultScenario = "lab/scenarios/paper.scenario"
	upLimit         = 2 * time.Minute
)

func labFlag(c *cobra.Command, name *string) {
	c.Flags().StringVar(name, "lab", defaultLab, "`name` of the lab")
}

func upCommand() *cobra.Command {
	var name, bin string
	c := &cobra.Command{
		Use:   "up [FILE]",
		Short: "Make a lab, play the first phase of a scenario, and keep it in the background",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := defaultScenario
			if len(args) == 1 {
				file = args[0]
			}
			return up(c.Context(), c.OutOrStdout(), name, file, bin)
		},
	}
	labFlag(c, &name)
	c.Flags().StringVar(&bin, "bin", "", "`folder` with orscore, plugins and orslab (default: this program's)")
	return c
}

// up starts the supervisor and shows what it says until the lab is ready.
func up(ctx context.Context, out io.Writer, name, file, bin string) error {
	sc, err := prepare(ctx, file, bin)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(sc.Setup.Program, "supervise", "--lab", name, "--bin", sc.Setup.Bin, file)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) // it cleans up behind itself
	defer stop()
	ready := false
	in := bufio.NewScanner(r)
	for in.Scan() {
		if in.Text() == readyLine {
			ready = true
			break
		}
		fmt.Fprintln(out, in.Text())
	}
	if !ready {
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("the lab could not be made: %w", err)
		}
		return errors.New("the lab could not be made")
	}
	fmt.Fprintf(out, "try: orslab status; orslab exec %[1]s -- orscore status; orslab do power off %[1]s; orslab down\n",
		sc.Setup.Servers[0].Name)
	return cmd.Process.Release()
}

const readyLine = "ready"

// superviseCommand is the background part of up.
func superviseCommand() *cobra.Command {
	var name, bin string
	c := &cobra.Command{
		Use:    "supervise FILE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return supervise(c.Context(), c.OutOrStdout(), name, args[0], bin)
		},
	}
	labFlag(c, &name)
	c.Flags().StringVar(&bin, "bin", "", "as of up")
	return c
}

func supervise(ctx context.Context, out io.Writer, name, file, bin string) (err error) {
	sc, err := prepare(ctx, file, bin)
	if err != nil {
		return err
	}
	say := sayTo(out, time.Now())
	making, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	p, err := pair.New(making, name, sc.Setup, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var said []string // by the runner, since the last command
	collect := func(format string, a ...any) { said = append(said, strings.TrimSpace(fmt.Sprintf(format, a...))) }
	r := scenario.NewRunner(sc, p, collect, func(text string) { collect("%s", text) })
	if _, err := r.RunPhase(making, sc.Phases[0]); err != nil {
		return errors.Join(err, errors.New(strings.Join(said, "\n")))
	}
	l, err := net.Listen("unix", labSocket(name))
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	unhook := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept reports it
	defer unhook()
	fmt.Fprintln(out, readyLine)
	if err := leaveTerminal(p.Path()); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		said = nil
		if answer(ctx, c, r, p, &said) {
			return nil
		}
	}
}

// leaveTerminal sends what is still printed to a file: nobody reads the pipe any more.
func leaveTerminal(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "supervisor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(unix.Dup3(int(f.Fd()), 1, 0), unix.Dup3(int(f.Fd()), 2, 0))
}

func labSocket(name string) string { return filepath.Join(pair.Base, name, "lab.sock") }

// question and reply go over the supervisor's socket, one JSON object each.
type question struct {
	Do    string   `json:"do"` // "status", "step", "down"
	Words []string `json:"words,omitempty"`
}

type reply struct {
	Lines []string `json:"lines"`
	Error string   `json:"error,omitempty"`
}

// answer serves one connection; it returns true when the lab is to end.
func answer(ctx context.Context, c net.Conn, r *scenario.Runner, p *pair.Pair, said *[]string) (end bool) {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // a client that asks nothing is not waited for
	var q question
	if err := json.NewDecoder(c).Decode(&q); err != nil {
		return false
	}
	var a reply
	var err error
	switch q.Do {
	case "status":
		a.Lines, err = describe(p)
	case "step":
		var st scenario.Step
		if st, err = r.Scenario.ParseStep(q.Words); err == nil {
			err = r.Do(ctx, st)
		}
		a.Lines = *said
	case "down":
		end = true
	default:
		err = fmt.Errorf("%q is not known", q.Do)
	}
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(c).Encode(a) // whoever asked may have left
	return end
}

func describe(p *pair.Pair) ([]string, error) {
	lines := []string{"lab " + p.Name() + " in " + p.Path()}
	for _, s := range p.Setup.Servers {
		state := "no power"
		if p.HasPower(s.Name) {
			state = "power, no agent"
		}
		if p.AgentRuns(s.Name) {
			state = "power, agent runs"
		}
		lines = append(lines, fmt.Sprintf("server %-8s %s", s.Name, state))
	}
	units, err := p.Enclosure()
	for _, u := range units {
		lines = append(lines, fmt.Sprintf("unit %-10s port %d (%s), light %s, epoch %d, moves %d", u.Name, u.State.Position,
			u.Hosts[fmt.Sprint(u.State.Position)], u.State.LED, u.State.Key.N, u.Moves))
	}
	return lines, err
}

// ask asks the supervisor of a lab.
func ask(ctx context.Context, name string, q question) (reply, error) {
	var a reply
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", labSocket(name))
	if err != nil {
		return a, fmt.Errorf("lab %q: %w", name, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := json.NewEncoder(c).Encode(q); err != nil {
		return a, err
	}
	if err := json.NewDecoder(c).Decode(&a); err != nil {
		return a, fmt.Errorf("lab %q: no answer: %w", name, err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func statusCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the lab: who has power, where the units are; and which labs there are",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names, err := pair.List()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "no lab; `orslab up` makes one")
				return nil
			}
			fmt.Fprintln(c.OutOrStdout(), "labs:", strings.Join(names, ", "))
			a, err := ask(c.Context(), name, question{Do: "status"})
			for _, l := range a.Lines {
				fmt.Fprintln(c.OutOrStdout(), l)
			}
			return err
		},
	}
	labFlag(c, &name)
	return c
}

func doCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:     "do STEP…",
		Short:   "Play one step of a scenario in the lab",
		Example: "  orslab do power off rocky\n  orslab do wait group rocky active on apollo within 20s",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := ask(c.Context(), name, question{Do: "step", Words: args})
			for _, l := range a.Lines {
				fmt.Fprintln(c.OutOrStdout(), l)
			}
			return err
		},
	}
	labFlag(c, &name)
	c.Flags().SetInterspersed(false)
	return c
}

func execCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "exec HOST -- COMMAND…",
		Short: "Run a command in a host of the lab",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			command := args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return errors.New("no command; right would be: orslab exec HOST -- COMMAND…")
			}
			spec := host.Spec{Name: args[0], Dir: filepath.Join(pair.Base, name, "hosts", args[0])}
			p, err := spec.Start(host.Cmd{Args: command, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
				Env: []string{"TERM=" + os.Getenv("TERM")}})
			if err != nil {
				return err
			}
			code, err := p.Wait(c.Context())
			if err != nil {
				return err
			}
			if code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
	labFlag(c, &name)
	c.Flags().SetInterspersed(false)
	return c
}

func downCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "down",
		Short: "Take the lab apart, and remove what labs have left whose controller died",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), 90*time.Second)
			defer cancel()
			if _, err := ask(ctx, name, question{Do: "down"}); err == nil {
				if err := waitRemoved(ctx, name); err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "lab %s removed\n", name)
			}
			swept, err := pair.SweepDead(ctx)
			for _, s := range swept {
				fmt.Fprintf(c.OutOrStdout(), "remains of lab %s removed\n", s)
			}
			return err
		},
	}
	labFlag(c, &name)
	return c
}

func waitRemoved(ctx context.Context, name string) error {
	for {
		if _, err := os.Stat(filepath.Join(pair.Base, name)); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lab %s is still there: %w", name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
