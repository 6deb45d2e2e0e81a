package domino

import (
	"cmp"
	"path/filepath"
	"strconv"
	"strings"
)

// launch is how a server is started: the program with its arguments, the directory in which it looks for its
// notes.ini, and variables of its own.
type launch struct {
	argv []string
	dir  string
	env  map[string]string
}

// launch says how a server is started on an operating system. On Linux the server reads the notes.ini of its working
// directory; on Windows it is named, with a = in front. Release 4 knows its partition by its number.
func (a *application) launch(goos string, s server) launch {
	l := launch{argv: []string{a.config.Program}, dir: s.Data, env: map[string]string{}}
	if goos == "windows" {
		l.argv = append(l.argv, "="+joinWindows(s.Data, iniName))
	}
	if s.Number != 0 {
		l.env["NotesServerPartition"] = strconv.Itoa(s.Number)
	}
	return l
}

// quit is how a server is asked to end.
func (a *application) quit(goos string, s server) launch {
	l := a.launch(goos, s)
	l.argv = append(l.argv, "-q")
	return l
}

func joinWindows(dir, name string) string { return strings.TrimRight(dir, `\/`) + `\` + name }

// slug is a name for files of one partition, the same for as long as the partition has its name.
func slug(name string) string {
	common, _, _ := strings.Cut(name, "/")
	if _, value, ok := strings.Cut(common, "="); ok {
		common = value
	}
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(common))
	return clean + "-" + shortHash(strings.ToLower(name))
}

func (a *application) superviseDir(s server) string {
	return filepath.Join(a.in.WorkDir, "servers", slug(s.Name))
}

// logFile is where the console output of a server goes: the file that the core names, where there are several servers
// with the server's name in it; in the work folder when the core is one that names none.
func (a *application) logFile(s server) string {
	path := cmp.Or(a.in.LogFile, filepath.Join(a.in.WorkDir, "output.log"))
	if len(a.servers) == 1 {
		return path
	}
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "." + slug(s.Name) + ext
}
