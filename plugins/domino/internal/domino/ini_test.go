package domino

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/domino/internal/notesini"
	"github.com/orscore/ors/plugins/sdk"
)

// apolloPair are Apollo's two partitions of the paper, as servers.
func apolloPair(t *testing.T) []server {
	t.Helper()
	return servers(instances(t, paper())[1], paper()[1])
}

const goodMapper = `[Notes]
Directory=/ors/F/notes/data
KeyFilename=server.id
ServerSetup=851
Ports=TCPIP
TCPIP=TCP, 0, 15, 0
TRANSLOG_Status=1
TRANSLOG_Path=logdir
` + addressAndMapping

const addressAndMapping = `TCPIP_TcpIpAddress=0,172.25.36.46:1352
TCPIP_PortMapping00=CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520
`

// iniMistakes are changes of a port mapper's notes.ini: text of it, what comes in its place, and what is said. "harm" in
// front says that the server must not be started with it.
var iniMistakes = map[string]struct {
	old, new string
	want     []string
}{
	"good":                                      {"", "", nil},
	"head":                                      {"[Notes]\n", "", []string{"warning first line is not [Notes]"}},
	"keys in another case":                      {"TCPIP_TcpIpAddress", "tcpip_TCPIPADDRESS", nil},
	"the usual port left out":                   {"172.25.36.46:1352\n", "172.25.36.46\n", nil},
	"CRLF":                                      {"\n", "\r\n", nil},
	"unbound":                                   {"TCPIP_TcpIpAddress=0,172.25.36.46:1352\n", "", []string{"harm 0.0.0.0"}},
	"bound to all":                              {"0,172.25.36.46:1352", "0,0.0.0.0:1352", []string{`harm "0,0.0.0.0:1352", not "0,172.25.36.46:1352"`}},
	"bound to the partner's":                    {"0,172.25.36.46:1352", "0,172.25.36.45:1352", []string{"harm 172.25.36.45:1352"}},
	"no zero in front":                          {"0,172.25.36.46:1352", "172.25.36.46:1352", []string{"harm TCPIP_TcpIpAddress is"}},
	"bound twice":                               {"TRANSLOG_Path", "TCPIP_TCPIPADDRESS=0,172.25.36.46:1352\nTRANSLOG_Path", []string{"harm 2 times"}},
	"the paper's misprint":                      {"TCPIP_TcpIpAddress", "TCP/IP_TcpIpAddress", []string{"harm is missing", `warning no port "TCP/IP"`}},
	"port not enabled":                          {"Ports=TCPIP", "Ports=LAN0", []string{`harm not among its enabled ports`, `warning no port "TCPIP"`, "warning port LAN0 has no line"}},
	"port disabled":                             {"Ports=TCPIP", "Ports=TCPIP\nDisabledPorts=TCPIP", []string{`harm not among its enabled ports`}},
	"a second port unbound":                     {"Ports=TCPIP", "Ports=TCPIP, TCPIP2\nTCPIP2=TCP, 0, 15, 0", []string{"harm port TCPIP2 is bound to no address"}},
	"a second port of no TCP":                   {"Ports=TCPIP", "Ports=TCPIP,LAN0\nLAN0=NETBIOS,0,15,0", nil},
	"a second port bound":                       {"Ports=TCPIP", "Ports=TCPIP,C\nC=TCP,0,15,0\nC_TcpIpAddress=0,10.0.0.1", nil},
	"nothing mapped":                            {"TCPIP_PortMapping00=CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520\n", "", []string{"error does not map CN=Apollo_2"}},
	"mapped to another port":                    {"172.25.36.46:13520", "172.25.36.46:13521", []string{"error does not map CN=Apollo_2", "warning which is no partition"}},
	"mapping after a gap":                       {"PortMapping00", "PortMapping01", []string{"error does not map", "error comes after a gap"}},
	"mapping of another port":                   {"TCPIP_PortMapping00", "TCP/IP_PortMapping00", []string{"error does not map", "error its prefix is not TCPIP"}},
	"a stranger mapped":                         {"TRANSLOG_Path", "TCPIP_PortMapping01=CN=X/O=Y,172.25.36.46:13529\nTRANSLOG_Path", []string{"warning CN=X/O=Y"}},
	"name in another case mapped":               {"CN=Apollo_2/OU=Servers/O=Cpqlab", "cn=apollo_2/ou=SERVERS/o=cpqlab", nil},
	"no ID file":                                {"KeyFilename=server.id", "KeyFilename=other.id", []string{"harm ID file /ors/F/notes/data/other.id is missing"}},
	"ID file on a local disk":                   {"KeyFilename=server.id", "KeyFilename=/etc/domino/server.id", []string{"error does not move with the group"}},
	"another directory":                         {"Directory=/ors/F/notes/data", "Directory=/ors/F/notes/data2", []string{"harm other databases"}},
	"no directory":                              {"Directory=/ors/F/notes/data\n", "", []string{"warning Directory is missing"}},
	"not set up":                                {"ServerSetup=851", "ServerSetup=", []string{"warning not set up"}},
	"no transaction log":                        {"TRANSLOG_Status=1", "TRANSLOG_Status=0", []string{"warning checked for consistency"}},
	"log on a local disk":                       {"TRANSLOG_Path=logdir", "TRANSLOG_Path=/var/translog", []string{"error would be missing after a takeover"}},
	"log on the partner's drive":                {"TRANSLOG_Path=logdir", "TRANSLOG_Path=/ors/E/translog", []string{"error does not move"}},
	"log elsewhere on the drive":                {"TRANSLOG_Path=logdir", "TRANSLOG_Path=/ors/F/translog", nil},
	"attachments elsewhere":                     {"Ports=TCPIP", "Ports=TCPIP\nDAOSBasePath=/var/daos", []string{"error attachments"}},
	"indexes elsewhere":                         {"Ports=TCPIP", "Ports=TCPIP\nFTBasePath=/var/ft", []string{"warning indexes"}},
	"a second port bound to all":                {"Ports=TCPIP", "Ports=TCPIP,C\nC=TCP,0,15,0\nC_TcpIpAddress=0,0.0.0.0:1352", []string{"harm take the port on all addresses"}},
	"a second port bound to nothing":            {"Ports=TCPIP", "Ports=TCPIP,C\nC=TCP,0,15,0\nC_TcpIpAddress=", []string{"harm take the port on all addresses"}},
	"a second port where its neighbour listens": {"Ports=TCPIP", "Ports=TCPIP,C\nC=TCP,0,15,0\nC_TcpIpAddress=0,172.25.36.46:13520", []string{"harm where CN=Apollo_2/OU=Servers/O=Cpqlab listens"}},
	"a second port bound twice":                 {"Ports=TCPIP", "Ports=TCPIP,C\nC=TCP,0,15,0\nC_TcpIpAddress=0,10.0.0.1\nC_TcpIpAddress=0,10.0.0.2", []string{"harm C_TcpIpAddress is there 2 times"}},
	"a second port without a line":              {"Ports=TCPIP", "Ports=TCPIP,C", []string{"warning port C has no line"}},
	"two lines of ports":                        {"Ports=TCPIP", "Ports=TCPIP\nPorts=TCPIP", []string{"harm Ports is there 2 times"}},
	"two directories":                           {"Directory=/ors/F/notes/data", "Directory=/ors/F/notes/data\nDirectory=/ors/E/notes", []string{"harm Directory is there 2 times"}},
	"another server's name":                     {"Ports=TCPIP", "Ports=TCPIP\nServerName=CN=Somebody/O=Else", []string{"error ServerName is"}},
	"its abbreviated name":                      {"Ports=TCPIP", "Ports=TCPIP\nServerName=apollo/Servers/Cpqlab", nil},
	"log behind a link":                         {"TRANSLOG_Path=logdir", "TRANSLOG_Path=links/log", []string{"error would be missing after a takeover"}},
	"attachments behind a link":                 {"Ports=TCPIP", "Ports=TCPIP\nDAOSBasePath=links/daos", []string{"error attachments"}},
	"a byte order mark":                         {"[Notes]", "\xef\xbb\xbf[Notes]", []string{"harm byte order mark"}},
	"fault recovery off":                        {"Ports=TCPIP", "Ports=TCPIP\nFaultRecoveryFromIni=1\nFaultRecovery=0", []string{"warning nobody restarts"}},
	"fault recovery on":                         {"Ports=TCPIP", "Ports=TCPIP\nFaultRecoveryFromIni=1\nFaultRecovery=1", nil},
}

func said(f iniFindings) []string {
	var all []string
	for _, p := range f.all {
		kind := "error"
		switch {
		case p.Severity == sdk.Warning:
			kind = "warning"
		case slices.Contains(f.harm, p.Summary):
			kind = "harm"
		}
		all = append(all, kind+" "+p.Summary)
	}
	return all
}

func TestInspect(t *testing.T) {
	own := apolloPair(t)
	there := func(path string) bool {
		return path == "/ors/F/notes/data/server.id" || path == "/etc/domino/server.id" || path == "/ors/F/notes/data2/server.id"
	}
	on := files{there: there, real: func(path string) string {
		if rest, ok := strings.CutPrefix(path, "/ors/F/notes/data/links"); ok {
			return "/var" + rest
		}
		return path
	}}
	for name, c := range iniMistakes {
		t.Run(name, func(t *testing.T) {
			got := said(inspect(notesini.Parse([]byte(strings.ReplaceAll(goodMapper, c.old, c.new))), own[0], own, own, byDomino, on))
			if c.old == "" {
				got = said(inspect(notesini.Parse([]byte(goodMapper)), own[0], own, own, byDomino, on))
			}
			for _, w := range c.want {
				kind, words, _ := strings.Cut(w, " ")
				i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, kind+" ") && strings.Contains(g, words) })
				if i < 0 {
					t.Errorf("%q is not among %q", w, got)
					continue
				}
				got = slices.Delete(got, i, i+1)
			}
			if len(got) > 0 {
				t.Errorf("also said: %q", got)
			}
		})
	}
	mapped := strings.NewReplacer("data", "data2", "172.25.36.46:1352\n", "172.25.36.46:13520\n").Replace(goodMapper)
	if got := said(inspect(notesini.Parse([]byte(mapped)), own[1], own, own, byDomino, on)); len(got) != 1 ||
		!strings.Contains(got[0], "lines that only a port mapper has: TCPIP_PortMapping00") {
		t.Errorf("port mappings of a partition that maps nothing: %q", got)
	}
	both := strings.Replace(goodMapper, "Ports=TCPIP", "FaultRecoveryFromIni=1\nFaultRecovery=1\nPorts=TCPIP", 1)
	if got := said(inspect(notesini.Parse([]byte(both)), own[0], own, own, byORS, on)); len(got) != 1 ||
		!strings.Contains(got[0], "two would restart it") {
		t.Errorf("two who restart: %q", got)
	}
}

// TestEdit: what is written makes the file right, and nothing else changes.
func TestEdit(t *testing.T) {
	own := apolloPair(t)
	for name, c := range map[string]struct {
		in, want string
		changed  int
	}{
		"right already": {goodMapper, goodMapper, 0},
		"unbound and unmapped": {
			goodMapper[:len(goodMapper)-len(addressAndMapping)], goodMapper, 2,
		},
		"wrong in place": {
			strings.NewReplacer("0,172.25.36.46:1352", "0,0.0.0.0", "13520", "13529").Replace(goodMapper), goodMapper, 2,
		},
		"a stranger first": {
			strings.Replace(goodMapper, "PortMapping00=", "PortMapping00=CN=X/O=Y,172.25.36.46:13529\nTCPIP_PortMapping01=", 1),
			strings.Replace(goodMapper, "PortMapping00=", "PortMapping00=CN=X/O=Y,172.25.36.46:13529\nTCPIP_PortMapping01=", 1), 0,
		},
		"a stranger only": {
			strings.Replace(goodMapper, "CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520", "CN=X/O=Y,172.25.36.46:13529", 1),
			strings.Replace(goodMapper, "CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520", "CN=X/O=Y,172.25.36.46:13529\n"+
				"TCPIP_PortMapping01=CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520", 1), 1,
		},
	} {
		ini := notesini.Parse([]byte(c.in))
		changed, err := edit(ini, own[0], own)
		if err != nil || len(changed) != c.changed || string(ini.Bytes()) != c.want {
			t.Errorf("%s: %q, %v:\n%s", name, changed, err, ini.Bytes())
		}
	}
	full := goodMapper[:len(goodMapper)-len(addressAndMapping)] + "TCPIP_TcpIpAddress=0,172.25.36.46:1352\n"
	for i := range mostMapped {
		full += fmt.Sprintf("TCPIP_PortMapping%02d=CN=X%d/O=Y,172.25.36.46:%d\n", i, i, leastMapped+20+i)
	}
	crowded := notesini.Parse([]byte(full))
	if _, err := edit(crowded, own[0], own); err == nil || !strings.Contains(err.Error(), "no room") ||
		string(crowded.Bytes()) != full {
		t.Errorf("where strangers have all the room: %v", err)
	}
	twice := []byte(goodMapper + "TCPIP_TcpIpAddress=0,1.2.3.4\n")
	ini := notesini.Parse(twice)
	if _, err := edit(ini, own[0], own); !errors.Is(err, notesini.ErrTwice) || !bytes.Equal(ini.Bytes(), twice) {
		t.Errorf("of two lines one was written: %v", err)
	}
}

func TestReadBinding(t *testing.T) {
	for in, want := range map[string]string{
		"0,172.25.36.45":      "172.25.36.45:1352",
		"0, 172.25.36.45:139": "172.25.36.45:139",
		"0,[2001:db8::1]:99":  "[2001:db8::1]:99",
		"0,2001:db8::1":       "[2001:db8::1]:1352",
		"0,[2001:db8::1]":     "[2001:db8::1]:1352",
		"0,rocky":             "", "172.25.36.45": "", "1,172.25.36.45": "", "0,": "", "": "", "0,172.25.36.45:x": "",
	} {
		at, err := readBinding(in)
		if got := fmt.Sprint(at); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q is %s, %v; want %q", in, got, err, want)
		}
	}
}
