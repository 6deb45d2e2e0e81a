package generic

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/orscore/ors/plugins/sdk/supervise"

	"github.com/orscore/ors/plugins/sdk"
)

// Ready implements sdk.Application. What lies on a drive is not looked at: the partner may own it.
func (a *application) Ready(context.Context) []sdk.Problem {
	var f findings
	if !supported {
		f.add("", "", "%v", supervise.ErrUnsupported)
		return f
	}
	user, err := a.user()
	if err != nil {
		f.add("user", "Create the user on this server, with the same number as on the partner.", "%v", err)
	} else if user != nil && os.Geteuid() != 0 && int(user.UID) != os.Geteuid() {
		f.add("user", "Run the agent as root, or leave user out.", "only root can run a program as %s", user.Name)
	}
	a.readyLimits(&f)
	a.eachCommand(func(attribute string, argv []string) { a.programReady(&f, attribute, argv[0]) })
	a.folderReady(&f, "working_directory", a.config.WorkingDirectory)
	if a.config.LogFile != "" {
		a.folderReady(&f, "log_file", filepath.Dir(a.config.LogFile))
	}
	return f
}

func (a *application) programReady(f *findings, attribute, program string) {
	if a.onDrive(program) {
		return
	}
	path, err := supervise.LookPath(program, a.environment(nil))
	if err != nil {
		f.add(attribute, "Install it on this server, or write its absolute path.", "%v", err)
		return
	}
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		f.add(attribute, "Install it on this server.", "%v", err)
	case fi.IsDir() || fi.Mode()&0o111 == 0:
		f.add(attribute, "Name a program file that may be executed.", "%s is not executable", path)
	}
}

func (a *application) folderReady(f *findings, attribute, dir string) {
	if a.onDrive(dir) {
		return
	}
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		f.add(attribute, "Make the folder on this server.", "%v", err)
	case !fi.IsDir():
		f.add(attribute, "Name a folder.", "%s is not a folder", dir)
	}
}

// onDrive says whether path lies on a drive of the group, which may be absent now.
func (a *application) onDrive(path string) bool {
	for _, d := range a.in.Drives {
		if rel, err := filepath.Rel(d.Path, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return true
		}
	}
	return false
}
