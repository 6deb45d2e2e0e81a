// Package nametest runs a real name server, BIND's named, with a zone that may be updated, for tests.
//
// It must never use a name server that it has not started, or leave one behind.
package nametest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Zone is what the server is primary for.
const Zone = "testlab.com"

const (
	startWithin = 30 * time.Second
	pause       = 20 * time.Millisecond
)

// zone has the pair of the white paper's, an alias, and a name with another type of record.
const zone = `$TTL 300
@       SOA apollo hostmaster 1 3600 600 86400 60
        NS  apollo
apollo  A   172.25.36.46
alias   CNAME apollo
rocky   TXT "mail"
`

const config = `options {
  directory "%[1]s"; pid-file none; session-keyfile none; recursion no; notify no; dnssec-validation no;
  listen-on port %[3]d { %[2]s; }; listen-on-v6 { none; };
};
controls { };
include "%[1]s/key";
zone "testlab.com" { type primary; file "zone"; update-policy { grant ors zonesub A AAAA; }; };
`

// Server is a running one.
type Server struct {
	Address string // with its port
	KeyFile string // that of a key which may update addresses of the zone
	argv    []string
	command *exec.Cmd
	ended   chan struct{}
	t       testing.TB
	log     string
}

// Start runs a server on an address until the test ends, behind whatever is to go before it on the command line, such
// as `ip netns exec`.
func Start(t testing.TB, ip string, port int, before ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{
		t: t, Address: net.JoinHostPort(ip, fmt.Sprint(port)), KeyFile: filepath.Join(dir, "key"),
		log:  filepath.Join(dir, "log"),
		argv: append(before, "/usr/sbin/named", "-g", "-n", "1", "-c", filepath.Join(dir, "conf")),
	}
	key, err := exec.Command("/usr/sbin/tsig-keygen", "-a", "hmac-sha256", "ors").Output()
	if err != nil {
		t.Fatalf("tsig-keygen (package bind9-utils): %v", err)
	}
	for name, content := range map[string]string{
		"key": string(key), "zone": zone, "conf": fmt.Sprintf(config, dir, ip, port),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.Stop)
	s.Run()
	return s
}

// Run starts the server, with the zone as it was when it stopped.
func (s *Server) Run() {
	s.t.Helper()
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	s.command = exec.Command(s.argv[0], s.argv[1:]...)
	s.command.Stdout, s.command.Stderr = out, out
	if err := s.command.Start(); err != nil {
		s.t.Fatalf("named (package bind9): %v", err)
	}
	s.ended = make(chan struct{})
	go func() { _ = s.command.Wait(); close(s.ended) }()
	for end := time.Now().Add(startWithin); !strings.Contains(s.Log(), " running\n"); time.Sleep(pause) {
		select {
		case <-s.ended:
			s.t.Fatalf("named ended:\n%s", s.Log())
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("named does not run after %v:\n%s", startWithin, s.Log())
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill() // our child, not yet waited for by anybody else
	<-s.ended
	s.command = nil
	_ = os.Remove(s.log)
}

// Log is what the server has said since it was started.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Secret is the key's.
func (s *Server) Secret() string {
	s.t.Helper()
	b, err := os.ReadFile(s.KeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "secret \"")
	secret, _, ok := strings.Cut(rest, "\"")
	if !ok {
		s.t.Fatal("tsig-keygen has written no secret")
	}
	return secret
}

// Records asks a server for the records of a name and type, each as in a zone file, with single spaces.
func Records(address, name string, kind uint16) ([]string, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	r, _, err := (&dns.Client{Net: "tcp"}).Exchange(m, address)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, rr := range r.Answer {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	return out, nil
}

// FreePort is a TCP and UDP port of the loopback address that nobody has just now.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
