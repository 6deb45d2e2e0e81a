package domino

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/orscore/ors/plugins/sdk"
)

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
		f.add("", "Protect it on Linux. There, as on Windows, the command would be: "+
			strings.Join(a.launch(runtime.GOOS, a.servers[0]).argv, " "), "%v", errUnsupported)
	}
	f.application(a.config)
	for _, s := range a.servers {
		f.server(s, runtime.GOOS)
	}
	f.together(a.pair, a.servers)
	return f
}

var releaseForm = regexp.MustCompile(`^\d+(\.\d+)*$`)

// major is the number before the first dot; 0 where there is none.
func major(release string) int {
	head, _, _ := strings.Cut(release, ".")
	n, err := strconv.Atoi(head)
	if err != nil {
		return 0
	}
	return n
}

func (f *findings) application(c config) {
	if !filepath.IsAbs(c.Program) {
		f.add("program", `Use an absolute path, such as "/opt/hcl/domino/bin/server".`, "program %q is not an absolute path",
			c.Program)
	}
	if c.Release != "" && !releaseForm.MatchString(c.Release) {
		f.add("release", `Write it as "4.5" or "12.0.2", or leave it out.`, "release %q is no number", c.Release)
	}
	if c.Probe != probeHello && c.Probe != probeTCP {
		f.add("probe", `Use "hello" or "tcp".`, "probe %q is unknown", c.Probe)
	}
	if c.OnFailure != byDomino && c.OnFailure != byORS {
		f.add("on_failure", `Use "domino" or "ors".`, "on_failure %q is unknown", c.OnFailure)
	}
}

var (
	nameForm = regexp.MustCompile(`(?i)^CN=[^/=,]+(/OU=[^/=,]+){0,4}/O=[^/=,]+(/C=[^/=,]+)?$`)
	portForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
)

// canonical turns Rocky/Servers/Cpqlab into CN=Rocky/OU=Servers/O=Cpqlab, for advice.
func canonical(abbreviated string) string {
	parts := strings.Split(abbreviated, "/")
	for i, p := range parts {
		if _, value, ok := strings.Cut(p, "="); ok {
			p = value
		}
		switch {
		case i == 0:
			parts[i] = "CN=" + p
		case i == len(parts)-1:
			parts[i] = "O=" + p
		default:
			parts[i] = "OU=" + p
		}
	}
	if len(parts) == 1 {
		parts = append(parts, "OU=Servers", "O=Cpqlab")
	}
	return strings.Join(parts, "/")
}

// server looks at one partition by itself.
func (f *findings) server(s server, goos string) {
	if !nameForm.MatchString(s.Name) {
		f.add(s.attribute("name"), fmt.Sprintf("Write its canonical name, such as %q.", canonical(s.Name)),
			"%q is not the canonical name of a server", s.Name)
	}
	if !filepath.IsAbs(s.Data) {
		f.add(s.attribute("data"), `Use drive["E:"].path and what comes below it.`,
			"data directory %q is not an absolute path", s.Data)
	} else if driveOf(s.drives, s.Data) == nil {
		f.add(s.attribute("data"), `It must move with its group: use drive["E:"].path and what comes below it.`+
			known(s.drives), "data directory %s is on no drive of group %q", s.Data, s.group)
	}
	f.address(s)
	if !portForm.MatchString(s.Port) {
		f.add(s.attribute("port"), `Use the name that Ports= in its notes.ini has, such as "TCPIP".`,
			"port %q is not the name of a Notes port", s.Port)
	}
	if s.Number < 0 || s.Number > mostPerHost {
		f.add(s.attribute("number"), "Use 1 to 6, or 0 for none.", "%d is no partition number", s.Number)
	}
	switch {
	case goos == "windows":
	case s.User == "":
		f.add(s.attribute("user"), "Name a user of its own: what a server leaves behind is cleaned up by its user.",
			"no user is named for %s", s.Name)
	case s.User == "root" || s.User == "0":
		f.add(s.attribute("user"), "Name a user of its own, the same on both servers.", "%s must not run as root", s.Name)
	}
	if s.HTTP != "" {
		u, err := url.Parse(s.HTTP)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			f.add(s.attribute("http"), `Use "http://HOST/" or "https://HOST/".`, "%q is not an http address", s.HTTP)
		}
	}
}

func (f *findings) address(s server) {
	at, err := parseAddress(s.Address)
	where := s.attribute("address")
	switch {
	case err != nil:
		f.add(where, `Write it as "172.25.36.45" or "172.25.36.45:1352".`, "%v", err)
	case at.Addr().IsUnspecified():
		f.add(where, "Bind each server to one address: after a takeover two unbound ones on one host would collide.",
			"%s would be bound to every address (%s)", s.Name, at.Addr())
	case at.Addr().IsLoopback() || at.Addr().IsMulticast() || at.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		f.add(where, "Use the address that moves with the group.", "%s is no address that clients of %s could use",
			at.Addr(), s.Name)
	case at.Addr().Zone() != "":
		f.add(where, "Leave out the zone: it means another adapter on the partner.", "address %s has a zone", s.Address)
	case at.Port() != notesPort && at.Port() < leastMapped:
		f.add(where, "Use 1352, and for partitions that share an address 13520, 13521 and up.",
			"port %d of %s is neither %d nor %d and up", at.Port(), s.Name, notesPort, leastMapped)
	}
}

func known(drives []sdk.Drive) string {
	var names []string
	for _, d := range drives {
		names = append(names, d.Configured+" at "+d.Path)
	}
	if len(names) == 0 {
		return " The group has no drives."
	}
	return " Its drives are " + strings.Join(names, ", ") + "."
}

// driveOf is the drive below which a path lies; nil: none.
func driveOf(drives []sdk.Drive, path string) *sdk.Drive {
	for i := range drives {
		if below(drives[i].Path, path) {
			return &drives[i]
		}
	}
	return nil
}

// below says whether path is dir or lies in it.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
