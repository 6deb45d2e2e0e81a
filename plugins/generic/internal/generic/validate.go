package generic

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

// stopSignals end a program that does not handle them, but for the last one: Apache's httpd ends gracefully at it.
var stopSignals = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGWINCH"}

// findings collects problems.
type findings []sdk.Problem

func (f *findings) add(attribute, detail, format string, args ...any) {
	*f = append(*f, sdk.Problem{
		Severity: sdk.Error, Attribute: attribute, Summary: fmt.Sprintf(format, args...), Detail: detail,
	})
}

func (f *findings) warn(attribute, detail, format string, args ...any) {
	f.add(attribute, detail, format, args...)
	(*f)[len(*f)-1].Severity = sdk.Warning
}

// Validate implements sdk.Application.
func (a *application) Validate(context.Context) []sdk.Problem {
	var f findings
	if !supported {
		f.add("", "Protect the program on Linux, or write a plugin for its Windows service.", "%v", supervise.ErrUnsupported)
	}
	c := a.config
	f.command("command", c.Command, true)
	if c.Mode != modeService && c.Mode != modeBatch {
		f.add("mode", `Use "service" or "batch".`, "mode %q is unknown", c.Mode)
	}
	f.absolute("working_directory", c.WorkingDirectory)
	if c.LogFile != "" {
		f.absolute("log_file", c.LogFile)
	}
	if c.LogMaxMB < 0 {
		f.add("log_max_mb", "Use 0 for a file without a bound.", "%d MiB is less than nothing", c.LogMaxMB)
	}
	c.validateLimits(&f)
	for name, value := range c.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			f.add("environment", "Use letters, digits and _.", "%q cannot be the name of a variable", name)
		}
		f.text("environment", fmt.Sprintf("the value of variable %q", name), value)
	}
	for i, code := range c.SuccessCodes {
		if code < 0 || code > 255 {
			f.add(fmt.Sprintf("success_codes[%d]", i), "Exit codes are 0 to 255.", "%d is not an exit code", code)
		}
	}
	for code := range c.ExitCodes {
		if n, err := strconv.Atoi(code); err != nil || n < 0 || n > 255 {
			f.add("exit_codes", "Exit codes are 0 to 255.", "%q is not an exit code", code)
		}
	}
	for i, b := range c.BeforeStart {
		path := fmt.Sprintf("before_start[%d].", i)
		f.command(path+"command", b.Command, true)
		f.duration(path+"timeout", b.Timeout)
	}
	for i, ch := range c.Check {
		f.check(fmt.Sprintf("check[%d].", i), ch)
	}
	for i, s := range c.Stop {
		path := fmt.Sprintf("stop[%d].", i)
		f.command(path+"command", s.Command, false)
		f.duration(path+"timeout", s.Timeout)
		f.duration(path+"kill_after", s.KillAfter)
		if !slices.Contains(stopSignals, s.Signal) {
			f.add(path+"signal", "Use "+strings.Join(stopSignals, ", ")+".",
				"signal %q is unknown, or none that a program ends at", s.Signal)
		}
	}
	a.strayPaths(&f)
	return f
}

// strayPaths refuses a path beside the group's drives: on a drive of another group, or of nobody. It would work only
// while that drive happens to be on the same server.
func (a *application) strayPaths(f *findings) {
	look := func(attribute, path string) {
		if letter := a.strayDrive(path); letter != "" {
			f.add(attribute, "Move it to a drive of this group, or take a folder that both servers have.",
				"%s is on %s, which is no drive of this group", path, letter)
		}
	}
	look("working_directory", a.config.WorkingDirectory)
	look("log_file", a.config.LogFile)
	a.eachCommand(func(attribute string, argv []string) {
		for _, arg := range argv {
			look(attribute, arg)
		}
	})
}

// strayDrive names the drive that a path would be on, where that is none of the group's: the drives of a server are
// folders, named after their letters, of one folder.
func (a *application) strayDrive(path string) string {
	for _, d := range a.in.Drives {
		root, folder := filepath.Split(d.Path)
		if folder != strings.TrimSuffix(d.Letter, ":") || a.onDrive(path) {
			continue
		}
		rest, ok := strings.CutPrefix(filepath.Clean(path), root)
		letter, _, _ := strings.Cut(rest, "/")
		if ok && len(letter) == 1 && letter >= "C" && letter <= "Z" {
			return letter + ":"
		}
	}
	return ""
}

// eachCommand visits all commands of the configuration that are not empty.
func (a *application) eachCommand(visit func(attribute string, argv []string)) {
	one := func(attribute string, argv []string) {
		if len(argv) > 0 {
			visit(attribute, argv)
		}
	}
	one("command", a.config.Command)
	for i, b := range a.config.BeforeStart {
		one(fmt.Sprintf("before_start[%d].command", i), b.Command)
	}
	for i, c := range a.config.Check {
		one(fmt.Sprintf("check[%d].command", i), c.Command)
	}
	for i, s := range a.config.Stop {
		one(fmt.Sprintf("stop[%d].command", i), s.Command)
	}
}

func (f *findings) command(path string, argv []string, required bool) {
	if len(argv) == 0 {
		if required {
			f.add(path, `Name the program and its arguments: ["/usr/bin/program", "argument"].`, "the command is empty")
		}
		return
	}
	if p := argv[0]; p == "" || strings.Contains(p, "/") && !filepath.IsAbs(p) {
		f.add(path, "Use an absolute path, or a bare name that is in PATH on both servers.",
			"program %q is neither an absolute path nor a bare name", p)
	}
	for i, arg := range argv {
		f.text(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%q", arg), arg)
	}
}

// text refuses what the system takes for the end of a text.
func (f *findings) text(path, what, value string) {
	if strings.Contains(value, "\x00") {
		f.add(path, "Take the zero byte out: no program can be given one.", "%s has a zero byte", what)
	}
}

func (f *findings) absolute(path, value string) {
	if !filepath.IsAbs(value) {
		f.add(path, "Use an absolute path.", "path %q is not absolute", value)
	}
	f.text(path, fmt.Sprintf("path %q", value), value)
}

// port refuses what no connection can be made to: a name counts when this server knows it (/etc/services).
func (f *findings) port(path, port string) {
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		f.add(path, "Use a number from 1 to 65535, or a name that /etc/services of both servers has.",
			"%q is neither a port nor a known service", port)
	}
}

func (f *findings) duration(path, value string) {
	if _, err := duration(value); err != nil {
		f.add(path, `Use a number and a unit: "500ms", "10s", "2m".`, "%v", err)
	}
}

func (f *findings) check(path string, c check) {
	f.duration(path+"timeout", c.Timeout)
	f.duration(path+"interval", c.Interval)
	if c.Rise < 1 {
		f.add(path+"rise", "Use 1 or more.", "a start cannot wait for %d successes", c.Rise)
	}
	switch c.Type {
	case "tcp":
		if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
			f.add(path+"address", `Use HOST:PORT, such as "127.0.0.1:5432".`, "address %q has no host and port", c.Address)
		} else {
			f.port(path+"address", port)
		}
	case "http":
		u, err := url.Parse(c.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			f.add(path+"url", `Use "http://HOST:PORT/PATH".`, "url %q is not an http address", c.URL)
		} else if port := u.Port(); port != "" {
			f.port(path+"url", port)
		}
		if c.Status != 0 && (c.Status < 100 || c.Status > 599) {
			f.add(path+"status", "Status codes are 100 to 599; 0 takes any from 200 to 399.",
				"%d is not a status code", c.Status)
		}
	case "command":
		f.command(path+"command", c.Command, true)
	default:
		f.add(path+"type", `Use "tcp", "http" or "command".`, "check %q is unknown", c.Type)
		return
	}
	given := map[string]bool{"address": c.Address != "", "url": c.URL != "", "command": len(c.Command) > 0}
	for name, used := range given {
		wanted := map[string]string{"tcp": "address", "http": "url", "command": "command"}[c.Type]
		if used && name != wanted {
			f.add(path+name, "Take it out, or use a check of the type it belongs to.", "a %s check has no %s", c.Type, name)
		}
	}
}
