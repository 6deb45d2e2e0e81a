package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limitArgument is the first argument of this program when it is to become a limited one.
const limitArgument = "ors-limited"

// limited is what this program is told to do before it becomes another one.
type limited struct {
	Path   string `json:"path"`
	Dir    string `json:"dir"`
	Limits Limits `json:"limits"`
	User   *User  `json:"user,omitempty"`
}

// failureFD is where a program that could not become the limited one says why; it is closed by becoming it.
const failureFD = 3

// limitWait is how long a program may take to become the limited one: setting limits and user waits for nobody,
// entering the working directory and reading the program may wait for a disk.
const limitWait = 30 * time.Second

// forkLimited starts a program that has limits, from its first instruction on: this program, executed again, lowers
// what it is allowed, gives up its user and becomes the other one. It returns when that has happened.
func (s *supervisor) forkLimited(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	raw, err := json.Marshal(limited{Path: path, Dir: attr.Dir, Limits: s.spec.Limits, User: s.spec.User})
	if err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	attr.Sys.Credential, attr.Dir = nil, "/" // both come after the limits
	attr.Files = append(attr.Files, w.Fd())
	pid, err := s.fork("/proc/self/exe", append([]string{argv[0], limitArgument, string(raw)}, argv...), attr)
	_ = w.Close()
	if err != nil {
		return 0, err
	}
	_ = r.SetReadDeadline(time.Now().Add(limitWait))
	said, err := io.ReadAll(r)
	switch {
	case err != nil:
		err = fmt.Errorf("start %s%s: %w", path, asUser(s.spec.User), err)
	case len(said) > 0:
		err = errors.New(string(said))
	default:
		return pid, nil
	}
	return 0, err // what is left of it is ended with the start
}

// becomeLimited never returns without an error.
func becomeLimited(args []string) error {
	unix.CloseOnExec(failureFD)
	var o limited
	if len(args) < 2 {
		return errors.New("no program to become")
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	for _, r := range []struct {
		resource int
		name     string
		value    *uint64
	}{
		{unix.RLIMIT_NOFILE, "open files", o.Limits.OpenFiles}, {unix.RLIMIT_NPROC, "processes", o.Limits.Processes},
		{unix.RLIMIT_CORE, "core dumps", o.Limits.CoreBytes},
	} {
		if r.value == nil {
			continue
		}
		if err := syscall.Setrlimit(r.resource, &syscall.Rlimit{Cur: *r.value, Max: *r.value}); err != nil {
			return fmt.Errorf("limit of %s: %w", r.name, err)
		}
	}
	if c := credential(o.User); c != nil {
		groups := make([]int, len(c.Groups))
		for i, g := range c.Groups {
			groups[i] = int(g)
		}
		if err := syscall.Setgroups(groups); err != nil {
			return fmt.Errorf("groups of user %s: %w", o.User.Name, err)
		}
		if err := syscall.Setgid(int(c.Gid)); err != nil {
			return fmt.Errorf("group of user %s: %w", o.User.Name, err)
		}
		if err := syscall.Setuid(int(c.Uid)); err != nil {
			return fmt.Errorf("user %s: %w", o.User.Name, err)
		}
	}
	err := os.Chdir(o.Dir)
	if err == nil {
		err = syscall.Exec(o.Path, args[1:], os.Environ())
	}
	return fmt.Errorf("start %s%s: %w", o.Path, asUser(o.User), explainExec(o.Path, o.Dir, err))
}

// scope is how a supervisor is started as a transient unit of systemd: systemd-run registers its own process as a scope
// and becomes the program, so that pid, standard input and descriptors stay what they are.
func (u *Unit) scope(id string, argv []string) []string {
	out := []string{"systemd-run", "--scope", "--quiet", "--collect", "--unit=" + u.Name + "-" + id[:8],
		"--description=" + u.Description, "--property=Delegate=yes",
		// At a shutdown of the server, who stops the application is the agent, in the application's own way.
		"--property=DefaultDependencies=no"}
	if u.MemoryBytes > 0 {
		out = append(out, fmt.Sprintf("--property=MemoryMax=%d", u.MemoryBytes), "--property=MemorySwapMax=0")
	}
	if u.CPUPercent > 0 {
		out = append(out, fmt.Sprintf("--property=CPUQuota=%d%%", u.CPUPercent))
	}
	return append(append(out, "--"), argv...)
}

// SystemdRuns says whether systemd is process 1 here (sd_booted(3)).
func SystemdRuns() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}
