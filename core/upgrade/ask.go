package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/plugins/sdk/handshake"
)

// about is what a program says of itself: orscore version --json.
type about struct {
	Version   string `json:"version"`
	Protocols struct {
		Control      int   `json:"control"`
		Plugin       int   `json:"plugin"`
		Interconnect []int `json:"interconnect"` // oldest and newest
	} `json:"protocols"`
}

// ask runs a program to learn what it is.
func ask(ctx context.Context, program string) (about, error) {
	var a about
	out, _, err := output(ctx, answerWait, program, "version", "--json")
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(out, &a); err != nil || a.Version == "" || len(a.Protocols.Interconnect) != 2 {
		return a, fmt.Errorf("its answer to `version --json` is not understood: %.200q", out)
	}
	return a, nil
}

// speaks says whether a program understands the partner, this server's plugins and this command.
func (a about) speaks(now seen) error {
	if got := a.Protocols.Control; got != control.Protocol {
		return fmt.Errorf("it speaks version %d of the control protocol, not %d", got, control.Protocol)
	}
	if got := a.Protocols.Plugin; got != handshake.ProtocolVersion {
		return fmt.Errorf("it speaks version %d of the plugin protocol, not %d", got, handshake.ProtocolVersion)
	}
	oldest, newest := a.Protocols.Interconnect[0], a.Protocols.Interconnect[1]
	for _, s := range now.status.Servers {
		if len(s.Speaks) == 2 && (newest < s.Speaks[0] || oldest > s.Speaks[1]) {
			return fmt.Errorf("it speaks versions %d to %d of the interconnect protocol, and %s speaks %d to %d",
				oldest, newest, s.Name, s.Speaks[0], s.Speaks[1])
		}
	}
	return nil
}

// problem is an error that a program's check has found.
type problem struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Summary  string `json:"summary"`
}

func (p problem) String() string {
	text := p.Summary
	if p.Code != "" {
		text = p.Code + " " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("%s:%d: %s", p.File, p.Line, text)
	}
	return text
}

// check lets a program check the configuration, and returns the errors that it has found.
func (o Options) check(ctx context.Context, program string) ([]problem, error) {
	args := []string{"check", "--json", "--config", o.Config}
	if o.Server != "" {
		args = append(args, "--server", o.Server)
	}
	out, diagnostics, err := output(ctx, checkWait, program, args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	var r struct {
		OK       *bool     `json:"ok"`
		Problems []problem `json:"problems"`
	}
	if json.Unmarshal(out, &r) != nil || r.OK == nil {
		return nil, fmt.Errorf("its answer to `check --json` is not understood: %.200q %.200q", out, diagnostics)
	}
	var found []problem
	for _, p := range r.Problems {
		if p.Severity == "error" {
			found = append(found, p)
		}
	}
	return found, nil
}

// output runs a program for a bounded time.
func output(ctx context.Context, within time.Duration, program string,
	args ...string) (out, diagnostics []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("`%s` had not ended after %v", strings.Join(args, " "), within)
	}
	if err != nil && stdout.Len() == 0 {
		err = fmt.Errorf("`%s`: %w: %.200s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), stderr.Bytes(), err
}
