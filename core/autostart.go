package core

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/store"
)

// autostartLinger is how long a command that was told to end, or its output, is waited for.
const autostartLinger = 2 * time.Second

// autostart runs the configuration's autostart commands, one after the other, as the white paper's agent runs
// CPQRSYS.CMD: after its initialization and before the first beat. What they print goes to autostart.log. A failure is
// told, and ends the agent only where the configuration says so.
func (a *agent) autostart(ctx context.Context) error {
	commands := a.cfg.Agent.Autostart
	if len(commands) == 0 {
		a.event("", "No autostart command is configured.")
		return nil
	}
	path := filepath.Join(a.cfg.Agent.LogDir, "autostart.log")
	out, err := openLog(path)
	if err != nil {
		a.log.Warn("what autostart commands print is lost", "error", err)
		path = "lost: " + err.Error()
	} else {
		defer func() { _ = out.Close() }()
	}
	for i := range commands {
		c := &commands[i]
		if c.OncePerBoot && a.ranInThisBoot(c) {
			a.event("", fmt.Sprintf("Autostart: %s has run since this server was started.", strings.Join(c.Command, " ")))
			continue
		}
		from := time.Now()
		err := a.autostartOne(ctx, c, out)
		name := strings.Join(c.Command, " ")
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			a.ranNow(c)
			a.event("", fmt.Sprintf("Autostart: %s has ended well after %v.", name, time.Since(from).Round(time.Millisecond)))
			continue
		}
		text := fmt.Sprintf("Autostart: %s: %v.", name, err)
		a.log.Error("ORS-1061: " + text)
		a.event("ORS-1061", text)
		if c.OnFailure == "stop" {
			return fmt.Errorf("ORS-1061: autostart: %s: %w; what it printed is in %s", name, err, path)
		}
		a.node.Alarm("ORS-1061", text, "what it printed is in "+path+"; mend it and restart the agent")
	}
	return nil
}

// bootMark is the file that holds the boot id of the last run of a command that runs once per boot.
func (a *agent) bootMark(c *config.Autostart) string {
	sum := sha256.Sum256([]byte(strings.Join(c.Command, "\x00")))
	return filepath.Join(a.cfg.Agent.StateDir, fmt.Sprintf("autostart-%x", sum[:8]))
}

func (a *agent) ranInThisBoot(c *config.Autostart) bool {
	boot, err := os.ReadFile(a.bootMark(c))
	return err == nil && string(boot) == a.boot
}

func (a *agent) ranNow(c *config.Autostart) {
	if !c.OncePerBoot {
		return
	}
	if err := os.WriteFile(a.bootMark(c), []byte(a.boot), 0o600); err != nil {
		a.log.Warn("a command that is to run once per boot will run again with the next agent", "error", err)
	}
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
}

// autostartOne runs one command within its time. Its output is a file, so that what it leaves running in the background
// keeps nobody waiting.
func (a *agent) autostartOne(ctx context.Context, c *config.Autostart, out *os.File) error {
	within, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(within, c.Command[0], c.Command[1:]...)
	cmd.Dir, cmd.WaitDelay = filepath.Dir(c.Command[0]), autostartLinger
	cmd.Env = append(os.Environ(), "ORS_SERVER="+a.cfg.ServerName(a.cfg.Self), "ORS_PARTNER="+partner(a.cfg),
		"ORS_CONFIG="+a.cfg.Path)
	ownGroup(cmd)
	if out != nil {
		cmd.Stdout, cmd.Stderr = out, out
	}
	err := cmd.Run()
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("it had not ended after %v and was killed", c.Timeout)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("it ended with %s", exit.ProcessState)
	}
	return err
}

// event writes into the journal.
func (a *agent) event(code, text string) {
	a.store.Note(store.Record{Kind: store.KindAgent, Step: "autostart", Code: code, Text: text, At: time.Now(),
		Server: a.cfg.ServerName(a.cfg.Self)})
}
