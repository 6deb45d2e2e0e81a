//go:build linux

package notes

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings are what a stand-in reads out of its notes.ini. Those that begin with LAB_ are its own.
type settings struct {
	name     string
	id       string
	bindings []string          // addresses of its ports
	mapped   map[string]string // names in lower case, and where they are
	check    time.Duration     // LAB_ConsistencyCheck, in milliseconds: how long it takes after an end without order
	closing  time.Duration     // LAB_Shutdown, in milliseconds
	deaf     bool              // LAB_Deaf=1: it is asked to end and does not
	nameless bool              // LAB_Nameless=1: its answer has no name
}

const mostMappings = 5

func readSettings(path string) (settings, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return settings{}, err
	}
	values := map[string]string{}
	for _, line := range strings.Split(string(raw), "\n") {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\r"), "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if _, twice := values[key]; ok && !twice {
			values[key] = strings.TrimSpace(value)
		}
	}
	s := settings{name: values["servername"], id: values["keyfilename"], mapped: map[string]string{}}
	if s.name == "" {
		return s, fmt.Errorf("%s: ServerName is missing", path)
	}
	for _, port := range strings.Split(values["ports"], ",") {
		port = strings.ToLower(strings.TrimSpace(port))
		if !strings.HasPrefix(values[port], "TCP") {
			continue
		}
		s.bindings = append(s.bindings, binding(values[port+"_tcpipaddress"]))
		for n := range mostMappings {
			line, ok := values[fmt.Sprintf("%s_portmapping%02d", port, n)]
			if !ok {
				break
			}
			who, at, _ := strings.Cut(line, ",")
			s.mapped[strings.ToLower(who)] = at
		}
	}
	for key, into := range map[string]*time.Duration{"lab_consistencycheck": &s.check, "lab_shutdown": &s.closing} {
		if ms, err := strconv.Atoi(values[key]); err == nil {
			*into = time.Duration(ms) * time.Millisecond
		}
	}
	s.deaf, s.nameless = values["lab_deaf"] == "1", values["lab_nameless"] == "1"
	return s, nil
}

// binding turns 0,IP[:PORT] into an address; a port that is not bound listens on all of them.
func binding(value string) string {
	const usual = ":1352"
	_, at, ok := strings.Cut(value, ",")
	switch {
	case !ok:
		return "0.0.0.0" + usual
	case strings.HasSuffix(at, "]") || !strings.Contains(at, ":"):
		return at + usual
	}
	return at
}
