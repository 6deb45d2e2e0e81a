package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitArgument is the first argument of this program when it is to become a limited one.
const limitArgument = "ors-limited"

// limited is what this program is told to do before it becomes another one.
type limited struct {
	Path   string `json:"path"`
	Limits Limits `json:"limits"`
	User   *User  `json:"user,omitempty"`
}

// wrap makes argv a call of this program, which lowers what it is allowed and then becomes the program: limits belong
// to a process, and the program is to have them from its first instruction on. It stays root until they are set.
func (l Limits) wrap(path string, argv []string, u *User, attr *syscall.ProcAttr) (string, []string, error) {
	if l == (Limits{}) {
		return path, argv, nil
	}
	if err := unix.Access(path, unix.X_OK); err != nil { // said now, not in the log
		return "", nil, fmt.Errorf("start %s%s: %w", path, asUser(u), explainExec(path, attr.Dir, err))
	}
	raw, err := json.Marshal(limited{Path: path, Limits: l, User: u})
	if err != nil {
		return "", nil, err
	}
	attr.Sys.Credential = nil
	return "/proc/self/exe", append([]string{argv[0], limitArgument, string(raw)}, argv...), nil
}

// becomeLimited never returns without an error.
func becomeLimited(args []string) error {
	var o limited
	if len(args) < 2 {
		return fmt.Errorf("no program to become")
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
	dir, _ := os.Getwd()
	err := syscall.Exec(o.Path, args[1:], os.Environ())
	return fmt.Errorf("start %s%s: %w", o.Path, asUser(o.User), explainExec(o.Path, dir, err))
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
