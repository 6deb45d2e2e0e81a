// Package domino protects Domino servers: it looks at the partitions of both servers of a pair side by side, reads
// each one's notes.ini, starts the servers under their users, asks each who it is, and stops them in order.
//
// It must never write to a notes.ini unless it was asked to and the server is surely stopped, remove a lock or
// anything else of a server that may live, start a server that would take another one's address or port, or restart
// a server where that is left to Domino.
package domino

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/orscore/ors/plugins/sdk"
)

// Version of the plugin.
const Version = "0.1.0"

// What Domino itself sets. WP is the white paper of 1997; docs/domino.md has the sources.
const (
	notesPort     = 1352  // NRPC; a port mapper listens here
	leastMapped   = 13520 // a mapped partition listens here or above
	mostMapped    = 5     // PortMapping00 to PortMapping04
	mostPerHost   = 6     // partitions of release 4 (WP)
	mostPerServer = 3     // of release 4, in a pair: the survivor runs both servers' (WP)
	iniName       = "notes.ini"
	defaultPort   = "TCPIP"
)

const (
	probeHello = "hello" // the server must say its name
	probeTCP   = "tcp"   // a connection is enough
	byDomino   = "domino"
	byORS      = "ors"
)

// config is the config block, as the core decodes it with schema.
type config struct {
	Program   string      `json:"program"`
	Release   string      `json:"release"`
	Probe     string      `json:"probe"`
	OnFailure string      `json:"on_failure"`
	EditIni   bool        `json:"edit_ini"`
	Partition []partition `json:"partition"`
}

type partition struct {
	Name    string `json:"name"`
	Data    string `json:"data"`
	Address string `json:"address"`
	Port    string `json:"port"`
	Mapper  bool   `json:"mapper"`
	Number  int    `json:"number"`
	User    string `json:"user"`
	HTTP    string `json:"http"`
}

// Plugin is what the program serves.
func Plugin() sdk.Plugin {
	return sdk.Plugin{
		Kind: "domino", Version: Version,
		Description: "Protects Domino servers: one, or several partitions of one host.",
		Schema:      schema,
		New:         newApplication,
	}
}

var schema = sdk.Schema{
	Description: "Domino servers that are started, watched and stopped together: one, or the partitions of one host. " +
		"All partitions that share an address belong into one application, which starts their port mapper first.",
	Attributes: []sdk.Attribute{
		{
			Name: "program", Type: "string", Required: true,
			Description: "The server program, such as /opt/hcl/domino/bin/server: on the group's drive, or on both servers.",
		},
		{
			Name: "release", Type: "string", Default: `""`,
			Description: `Release of Domino, such as "4.5" or "12.0.2". Release 4 has limits: at most 6 partitions on a host, ` +
				"so at most 3 on each server of a pair. Empty: a later one.",
		},
		{
			Name: "probe", Type: "string", Default: `"` + probeHello + `"`,
			Description: `"hello": the server must say its name at its address, as it does to a Notes client. "tcp": a ` +
				"connection is enough, for releases that do not answer the hello.",
		},
		{
			Name: "on_failure", Type: "string", Default: `"` + byDomino + `"`,
			Description: `Who restarts a server that has failed: "domino", by its fault recovery, or "ors", in place and ` +
				"then on the partner. Never both.",
		},
		{
			Name: "edit_ini", Type: "bool", Default: "false",
			Description: "Write addresses and port mappings into notes.ini before a start when they are missing or wrong. " +
				"Otherwise notes.ini is only read.",
		},
	},
	Blocks: []sdk.Block{{
		Name: "partition", Labels: []string{"name"}, Min: 1,
		Body: sdk.Schema{
			Description: "One server. The label is its canonical name, such as CN=Rocky/OU=Servers/O=Cpqlab.",
			Attributes: []sdk.Attribute{
				{
					Name: "data", Type: "string", Required: true,
					Description: "Its data directory on a drive of the group, with its notes.ini.",
				},
				{
					Name: "address", Type: "string", Required: true,
					Description: "IP address it is bound to, with :PORT where that is not 1352.",
				},
				{
					Name: "port", Type: "string", Default: `"` + defaultPort + `"`,
					Description: "Name of its Notes port, as in Ports= of its notes.ini.",
				},
				{
					Name: "mapper", Type: "bool", Default: "false",
					Description: "It is the port mapper: it listens on 1352 and passes clients on to the other partitions of " +
						"its address.",
				},
				{
					Name: "number", Type: "number", Default: "0",
					Description: "Partition number of release 4 (NotesServerPartition), 1 to 6 and different in the whole " +
						"pair. 0: none.",
				},
				{
					Name: "user", Type: "string", Default: `""`,
					Description: "User that it runs as, the same on both servers and no other partition's. Required on Linux.",
				},
				{
					Name: "http", Type: "string", Default: `""`,
					Description: "URL that must answer, too, such as http://172.25.36.45/. Empty: HTTP is not looked at.",
				},
			},
		},
	}},
}

// server is one partition with what its configuration means, and where it belongs.
type server struct {
	partition
	group, app, primary string
	release             string // of its application; empty: a later one than 4
	index               int    // in its application
	drives              []sdk.Drive
	at                  netip.AddrPort // invalid when the address is wrong
}

// attribute is the path of one of its attributes in the configuration.
func (s server) attribute(name string) string { return fmt.Sprintf("partition[%d].%s", s.index, name) }

func (s server) ini() string { return filepath.Join(s.Data, iniName) }

// same says whether two are the same one of the configuration.
func (s server) same(o server) bool {
	return s.group == o.group && s.app == o.app && s.index == o.index
}

// binding is the value of its TcpIpAddress.
func (s server) binding() string { return "0," + s.at.String() }

// bindingKey is the key of that value.
func (s server) bindingKey() string { return s.Port + "_TcpIpAddress" }

// mappings are the values of the port mapper's PortMapping lines, in their order.
func mappings(all []server, mapper server) []string {
	var out []string
	for _, s := range all {
		if !s.same(mapper) && s.at.IsValid() && s.at.Addr() == mapper.at.Addr() {
			out = append(out, s.Name+","+s.at.String())
		}
	}
	return out
}

func mappingKey(port string, n int) string { return fmt.Sprintf("%s_PortMapping%02d", port, n) }

// parseAddress reads IP or IP:PORT.
func parseAddress(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), notesPort), nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no IP address with a port", s)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// servers are the partitions of one application.
func servers(in sdk.Instance, c config) []server {
	var out []server
	for i, p := range c.Partition {
		s := server{partition: p, group: in.Group, app: in.Name, primary: in.Primary, release: c.Release, index: i,
			drives: in.Drives}
		s.at, _ = parseAddress(p.Address) // Validate tells
		out = append(out, s)
	}
	return out
}

// application implements sdk.Application for the partitions of one config block.
type application struct {
	in      sdk.Instance
	config  config
	servers []server
	pair    []server // of all applications of both servers, in the order of the file; only where the core tells
}

func newApplication(in sdk.Instance) (sdk.Application, error) {
	a := &application{in: in}
	if err := in.Decode(&a.config); err != nil {
		return nil, err
	}
	a.servers = servers(in, a.config)
	for _, other := range in.All {
		var c config
		if other.Decode(&c) != nil {
			continue // that is told of the other one
		}
		a.pair = append(a.pair, servers(other, c)...)
	}
	if len(a.pair) == 0 {
		a.pair = a.servers
	}
	return a, nil
}
