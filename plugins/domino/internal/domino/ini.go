package domino

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/orscore/ors/plugins/domino/internal/notesini"
	"github.com/orscore/ors/plugins/sdk"
)

// iniFindings are what is wrong with a notes.ini. harm is the part of it with which the server must not be started:
// it would take what is another one's, or not be the server that it should be.
type iniFindings struct {
	all  findings
	harm []string
}

func (f *iniFindings) fatal(s server, detail, format string, args ...any) {
	f.err(s, detail, format, args...)
	f.harm = append(f.harm, f.all[len(f.all)-1].Summary)
}

func (f *iniFindings) err(s server, detail, format string, args ...any) {
	f.all.add(s.attribute("data"), detail, "%s: %s", s.ini(), fmt.Sprintf(format, args...))
}

func (f *iniFindings) warn(s server, detail, format string, args ...any) {
	f.err(s, detail, format, args...)
	f.all[len(f.all)-1].Severity = sdk.Warning
}

// files is what is seen of the files of a server.
type files struct {
	there func(string) bool   // whether a file is there
	real  func(string) string // where it really is, behind links
}

// inspect looks whether a server with this notes.ini is the one that is configured. own are the partitions of the
// application, pair those of both servers.
func inspect(ini *notesini.File, s server, own, pair []server, onFailure string, on files) iniFindings {
	var f iniFindings
	if ini.HasBOM() {
		f.fatal(s, "Save it without one.", "it begins with a byte order mark, which hides its first line")
	} else if !ini.HasHeader() {
		f.warn(s, "Put it there.", "the first line is not [Notes]")
	}
	f.twice(ini, s)
	f.ports(ini, s)
	f.bound(ini, s, pair)
	f.mapped(ini, s, own)
	f.identity(ini, s, on)
	f.storage(ini, s, on)
	f.recovery(ini, s, onFailure)
	return f
}

// twice looks for keys that are read here, or by the server, and are there more than once: which line counts is not
// known.
func (f *iniFindings) twice(ini *notesini.File, s server) {
	for _, key := range []string{
		"Ports", "DisabledPorts", "Directory", "ServerKeyFileName", "KeyFilename", "TRANSLOG_Status", "TRANSLOG_Path",
	} {
		if n := ini.Count(key); n > 1 {
			f.fatal(s, "Leave the right one.", "%s is there %d times", key, n)
		}
	}
}

// list reads a value of names with commas between them.
func list(ini *notesini.File, key string) []string {
	v, _ := ini.Get(key)
	var out []string
	for _, name := range strings.Split(v, ",") {
		if name = strings.TrimSpace(name); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func contains(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// portNames are the Notes ports that are in use.
func portNames(ini *notesini.File) []string {
	off := list(ini, "DisabledPorts")
	return slices.DeleteFunc(list(ini, "Ports"), func(n string) bool { return contains(off, n) })
}

func (f *iniFindings) ports(ini *notesini.File, s server) {
	if !contains(portNames(ini), s.Port) {
		f.fatal(s, fmt.Sprintf("Enable it with Ports=%s and a line %s=TCP, 0, 15, 0, or configure another port.", s.Port,
			s.Port), "port %s is not among its enabled ports %q", s.Port, portNames(ini))
	}
	for _, key := range ini.Keys() {
		prefix, ok := cutSuffixFold(key, "_TcpIpAddress")
		if ok && !contains(list(ini, "Ports"), prefix) {
			f.warn(s, "The prefix is the name of a port, as in Ports=.", "%s binds nothing: there is no port %q", key, prefix)
		}
	}
}

// bound looks whether each TCP port of the server is bound to an address, and the one of the group to the right one.
func (f *iniFindings) bound(ini *notesini.File, s server, pair []server) {
	for _, port := range portNames(ini) {
		if !strings.EqualFold(port, s.Port) {
			f.boundElsewhere(ini, s, port, pair)
		}
	}
	if v, _ := ini.Get("TCP_EnableIPv6"); s.at.Addr().Is6() && v != "1" {
		f.fatal(s, "Add TCP_EnableIPv6=1.", "the address %s is of IPv6, which is not switched on", s.at.Addr())
	}
	key, want := s.bindingKey(), s.binding()
	v, ok := ini.Get(key)
	switch at, err := readBinding(v); {
	case ini.Count(key) > 1:
		f.fatal(s, "Leave the right one.", "%s is there %d times", key, ini.Count(key))
	case !ok:
		f.fatal(s, fmt.Sprintf("Add %s=%s, or set edit_ini = true.", key, want),
			"%s is missing: the server would listen on all addresses of the host (0.0.0.0)", key)
	case err != nil || at != s.at:
		f.fatal(s, fmt.Sprintf("Right would be %s=%s; edit_ini = true would write it.", key, want), "%s is %q, not %q", key,
			v, want)
	}
}

// boundElsewhere looks at another port of the server than the one of the group: it must not take an address of the host
// that it is not bound to, nor one of the pair's partitions.
func (f *iniFindings) boundElsewhere(ini *notesini.File, s server, port string, pair []server) {
	driver, ok := ini.Get(port)
	if !ok {
		f.warn(s, fmt.Sprintf("Add a line such as %s=TCP, 0, 15, 0, or disable it.", port), "port %s has no line", port)
		return
	}
	if kind, _, _ := strings.Cut(driver, ","); !strings.EqualFold(strings.TrimSpace(kind), "TCP") {
		return
	}
	const next = "Bind it to an address of its own, or disable it."
	key := port + "_TcpIpAddress"
	v, has := ini.Get(key)
	at, err := readBinding(v)
	switch {
	case !has:
		f.fatal(s, next, "port %s is bound to no address: the server would take it on all", port)
	case ini.Count(key) > 1:
		f.fatal(s, "Leave the right one.", "%s is there %d times", key, ini.Count(key))
	case err != nil || at.Addr().IsUnspecified():
		f.fatal(s, next, "%s is %q: the server would take the port on all addresses", key, v)
	default:
		for _, o := range pair {
			if o.at == at {
				f.fatal(s, next, "port %s is bound to %s, where %s listens", port, at, o.Name)
			}
		}
	}
}

// readBinding reads the value of a TcpIpAddress: 0,IP or 0,IP:PORT.
func readBinding(v string) (netip.AddrPort, error) {
	zero, address, ok := strings.Cut(v, ",")
	if !ok || strings.TrimSpace(zero) != "0" {
		return netip.AddrPort{}, fmt.Errorf("%q does not begin with 0,", v)
	}
	return parseAddress(strings.TrimSpace(address))
}

// mapped looks at the PortMapping lines, which belong to the port mapper and to nobody else. Servers read them from
// 00 on up to the first number that is missing.
func (f *iniFindings) mapped(ini *notesini.File, s server, own []server) {
	var lines []string
	for _, key := range ini.Keys() {
		if strings.Contains(strings.ToLower(key), "_portmapping") {
			lines = append(lines, key)
		}
	}
	if !s.Mapper {
		if len(lines) > 0 {
			f.err(s, "Take them out, or set `mapper = true`.", "%s has lines that only a port mapper has: %s", s.Name,
				strings.Join(lines, ", "))
		}
		return
	}
	want := mappings(own, s)
	read := readMappings(ini, s.Port)
	for _, w := range want {
		if !slices.ContainsFunc(read, func(r string) bool { return sameMapping(r, w) }) {
			f.err(s, fmt.Sprintf("Add %s=%s, or set edit_ini = true.", mappingKey(s.Port, min(len(read), mostMapped-1)), w),
				"the port mapper does not map %s", w)
		}
	}
	for _, r := range read {
		if !slices.ContainsFunc(want, func(w string) bool { return sameMapping(r, w) }) {
			f.warn(s, "Take it out, or protect that server, too.", "it maps %q, which is no partition of this application", r)
		}
	}
	for _, key := range lines {
		if n := strings.ToLower(key); !slices.ContainsFunc(seq(len(read)), func(i int) bool {
			return n == strings.ToLower(mappingKey(s.Port, i))
		}) {
			f.err(s, fmt.Sprintf("Number them from %s on without a gap.", mappingKey(s.Port, 0)),
				"%s is not read: its number comes after a gap, is above %02d, or its prefix is not %s", key, mostMapped-1, s.Port)
		}
	}
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func readMappings(ini *notesini.File, port string) []string {
	var out []string
	for i := range mostMapped {
		v, ok := ini.Get(mappingKey(port, i))
		if !ok {
			break
		}
		out = append(out, v)
	}
	return out
}

// sameMapping compares NAME,IP:PORT: names without case, addresses by what they mean.
func sameMapping(a, b string) bool {
	aName, aAt, _ := strings.Cut(a, ",")
	bName, bAt, _ := strings.Cut(b, ",")
	x, errX := parseAddress(strings.TrimSpace(aAt))
	y, errY := parseAddress(strings.TrimSpace(bAt))
	return strings.EqualFold(strings.TrimSpace(aName), strings.TrimSpace(bName)) && errX == nil && errY == nil && x == y
}

// idFile is where the server's ID file is.
func idFile(ini *notesini.File, s server) string {
	name := "server.id"
	for _, key := range []string{"ServerKeyFileName", "KeyFilename"} {
		if v, ok := ini.Get(key); ok && v != "" {
			name = v
			break
		}
	}
	return inData(s, name)
}

func inData(s server, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.Data, path)
}

// sameServer compares names of servers, of which a notes.ini may have the canonical or the abbreviated form.
func sameServer(a, b string) bool {
	short := func(name string) string {
		parts := strings.Split(name, "/")
		for i, p := range parts {
			if _, v, ok := strings.Cut(p, "="); ok {
				p = v
			}
			parts[i] = strings.TrimSpace(p)
		}
		return strings.Join(parts, "/")
	}
	return strings.EqualFold(short(a), short(b))
}

func (f *iniFindings) identity(ini *notesini.File, s server, on files) {
	if v, ok := ini.Get("ServerName"); ok && v != "" && !sameServer(v, s.Name) {
		f.err(s, "Is it the right data directory?", "ServerName is %q, not %q", v, s.Name)
	}
	if id := idFile(ini, s); !on.there(id) {
		f.fatal(s, "Copy the server's ID file there.", "the server's ID file %s is missing", id)
	} else if driveOf(s.drives, on.real(id)) == nil {
		f.err(s, "Put it into the data directory.", "the server's ID file %s does not move with the group", id)
	}
	if v, ok := ini.Get("Directory"); !ok {
		f.warn(s, "Add Directory="+s.Data+".", "Directory is missing")
	} else if filepath.Clean(v) != filepath.Clean(s.Data) {
		f.fatal(s, "Right would be Directory="+s.Data+".", "Directory is %q: the server would work with other databases", v)
	}
	if v, _ := ini.Get("ServerSetup"); v == "" {
		f.warn(s, "Run its setup first.", "ServerSetup is empty: the server was not set up yet")
	}
}

// storage looks whether what belongs to the databases moves with them.
func (f *iniFindings) storage(ini *notesini.File, s server, on files) {
	if real := on.real(s.Data); driveOf(s.drives, real) == nil {
		f.fatal(s, "Put it on a drive of the group."+known(s.drives),
			"the data directory is a link to %s, which does not move with the group", real)
	}
	if v, _ := ini.Get("TRANSLOG_Status"); v != "1" {
		f.warn(s, "Turn transaction logging on: then a start after a failure replays the log instead.",
			"without transaction logging each database is checked for consistency when the server starts after a failure")
	} else if path, _ := ini.Get("TRANSLOG_Path"); driveOf(s.drives, on.real(inData(s, logDir(path)))) == nil {
		f.err(s, "Put it on the same storage unit as the data directory."+known(s.drives),
			"the transaction log %s does not move with the group: what is only in it would be missing after a takeover", path)
	}
	elsewhere := func(key string) string {
		path, _ := ini.Get(key)
		if path == "" || driveOf(s.drives, on.real(inData(s, path))) != nil {
			return ""
		}
		return path
	}
	if path := elsewhere("DAOSBasePath"); path != "" {
		f.err(s, "Put them on a drive of the group."+known(s.drives), "the attachments in %s do not move with the group",
			path)
	}
	if path := elsewhere("FTBasePath"); path != "" {
		f.warn(s, "They are made anew on the partner.", "the full-text indexes in %s do not move with the group", path)
	}
}

// logDir is where the transaction log is: without a word, in logdir of the data directory.
func logDir(path string) string {
	if path == "" {
		return "logdir"
	}
	return path
}

// recovery looks that exactly one restarts a server that has failed. What the Server document says is not seen here.
func (f *iniFindings) recovery(ini *notesini.File, s server, onFailure string) {
	if v, _ := ini.Get("FaultRecoveryFromIni"); v != "1" {
		return
	}
	on, _ := ini.Get("FaultRecovery")
	switch {
	case onFailure == byORS && on == "1":
		f.err(s, `Set FaultRecovery=0, or on_failure = "domino".`,
			"fault recovery is on and on_failure is \"ors\": two would restart it")
	case onFailure == byDomino && on != "1":
		f.warn(s, `Set FaultRecovery=1, or on_failure = "ors".`,
			"fault recovery is off: nobody restarts the server when it fails")
	}
}

// edit writes what is missing or wrong of the address and, for the port mapper, of the mappings. It returns the keys
// that it has changed.
func edit(ini *notesini.File, s server, own []server) (changed []string, err error) {
	set := func(key, value string) {
		if err == nil {
			err = ini.Set(key, value)
			changed = append(changed, key)
		}
	}
	v, ok := ini.Get(s.bindingKey())
	if at, bad := readBinding(v); !ok || bad != nil || at != s.at || ini.Count(s.bindingKey()) > 1 {
		set(s.bindingKey(), s.binding())
	}
	if !s.Mapper {
		return changed, err
	}
	read := readMappings(ini, s.Port)
	for _, w := range mappings(own, s) {
		if slices.ContainsFunc(read, func(r string) bool { return sameMapping(r, w) }) {
			continue
		}
		name, _, _ := strings.Cut(w, ",")
		at := slices.IndexFunc(read, func(r string) bool {
			n, _, _ := strings.Cut(r, ",")
			return strings.EqualFold(strings.TrimSpace(n), name)
		})
		if at < 0 { // behind those of others
			at, read = len(read), append(read, w)
		}
		if at >= mostMapped {
			return changed, fmt.Errorf("there is no room for a port mapping of %s: all %d are taken", name, mostMapped)
		}
		read[at] = w
		set(mappingKey(s.Port, at), w)
	}
	return changed, err
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if len(s) < len(suffix) || !strings.EqualFold(s[len(s)-len(suffix):], suffix) {
		return "", false
	}
	return s[:len(s)-len(suffix)], true
}
