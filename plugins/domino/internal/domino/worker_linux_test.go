package domino

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Users that a Debian has and that nothing runs as, not even other tests.
const (
	serverUser  = 38 // list
	anotherUser = 39 // irc
)

// TestWhoWorksIn: real processes, each of which may be the server of a data directory, or surely is none.
func TestWhoWorksIn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for processes of other users")
	}
	const (
		sleep = "/usr/bin/sleep 300"
		other = "DIR/../domino/bin/other 300"
	)
	for name, c := range map[string]struct {
		command  string // DIR stands for the data directory, here and below
		user     uint32
		cwd      string
		terminal bool
		named    time.Duration // how old a pid.nbf with its number is; 0: there is none
		want     string        // what is said of it; empty: it is none
	}{
		"of the server's user":           {sleep, serverUser, "DIR", false, 0, "works in "},
		"of its user, at a terminal":     {sleep, serverUser, "DIR", true, 0, "works in "},
		"below, of anybody":              {sleep, anotherUser, "DIR/mail", false, 0, "works in "},
		"beside":                         {sleep, serverUser, "DIR/../data2", false, 0, ""},
		"at a terminal":                  {sleep, anotherUser, "DIR", true, 0, ""},
		"a shell at a terminal":          {"/bin/sh -i", anotherUser, "DIR", true, 0, ""},
		"a script at a terminal":         {"/bin/sh DIR/start", anotherUser, "DIR", true, 0, "works in "},
		"Domino's program at a terminal": {other, anotherUser, "DIR", true, 0, "works in "},
		"writes from elsewhere": {
			"/bin/sh -c exec_sleep_300_>>DIR/mail/log.nsf", anotherUser, "/", false, 0, "writes to files in ",
		},
		"writes at a terminal": {
			"/bin/sh -c exec_sleep_300_>>DIR/log.nsf", anotherUser, "DIR", true, 0, "writes to files in ",
		},
		"reads from elsewhere":              {"/bin/sh -c exec_sleep_300_<DIR/start", anotherUser, "/", false, 0, ""},
		"named":                             {sleep, serverUser, "/", false, time.Nanosecond, "is named by pid.nbf in "},
		"its number is another user's":      {sleep, anotherUser, "/", false, time.Nanosecond, ""},
		"its number is another partition's": {other, anotherUser, "/", false, time.Nanosecond, ""},
		"its number was given anew":         {sleep, serverUser, "/", false, time.Hour, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := os.MkdirTemp("", "ors-domino-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(root)
			dir := filepath.Join(root, "data")
			argv := strings.Fields(strings.ReplaceAll(c.command, "DIR", dir))
			program, err := os.ReadFile("/usr/bin/sleep")
			bin := filepath.Join(root, "domino", "bin")
			for _, step := range []func() error{
				func() error { return err },
				func() error { return os.MkdirAll(bin, 0o755) },
				func() error { return os.WriteFile(filepath.Join(bin, "other"), program, 0o755) },
				func() error { return os.WriteFile(filepath.Join(bin, "server"), program, 0o755) },
				func() error { return os.Mkdir(filepath.Join(root, "data2"), 0o755) },
				func() error { return os.MkdirAll(filepath.Join(dir, "mail"), 0o755) },
				func() error { return os.WriteFile(filepath.Join(dir, "start"), []byte("read x\n"), 0o755) },
				func() error { return os.Chmod(root, 0o755) },
				func() error { return os.Chmod(dir, 0o777) },
				func() error { return os.Chmod(filepath.Join(dir, "mail"), 0o777) },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			for i := range argv[1:] {
				argv[i+1] = strings.ReplaceAll(argv[i+1], "_", " ")
			}
			cmd := exec.Command(filepath.Clean(argv[0]), argv[1:]...)
			cmd.Dir = filepath.Clean(strings.ReplaceAll(c.cwd, "DIR", dir))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user},
				Pdeathsig: syscall.SIGKILL, Setsid: true, Setctty: c.terminal}
			master, terminal, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = master.Close(), terminal.Close() }()
			if c.terminal {
				cmd.Stdin = terminal
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
			exe := ""
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				if exe = programOf(cmd.Process.Pid); !strings.Contains(c.command, "exec") || exe == "/usr/bin/sleep" {
					break
				}
			}
			if c.named > 0 {
				path := filepath.Join(dir, "pid.nbf")
				text := "100000001 " + strconv.Itoa(cmd.Process.Pid) + "\n"
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, time.Time{}, time.Now().Add(-c.named)); err != nil {
					t.Fatal(err)
				}
			}
			w, err := whoWorksIn(dir, serverUser, filepath.Join(bin, "server"))
			switch {
			case err != nil:
				t.Error(err)
			case c.want == "" && w != nil:
				t.Errorf("found %v", w)
			case c.want != "" && (w == nil || w.String() != fmt.Sprintf("process %d (%s, user %s) %s%s", cmd.Process.Pid, exe,
				userName(c.user), c.want, dir)):
				t.Errorf("found %v, want that process %d %s%s", w, cmd.Process.Pid, c.want, dir)
			}
		})
	}
}
