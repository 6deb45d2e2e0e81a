// Package netcheck asks hosts of the network whether they answer, so that a server can tell that it is cut off itself:
// by ICMP echo, by ARP, or by a TCP connection.
//
// It must never draw a conclusion, send more than a few packets a second to a host, or wait beyond its context.
package netcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The white paper's two sentences (Test Network Connectivity).
const (
	Successful = "Network Connectivity Check Successful"
	Failed     = "Network Connectivity Check Failed"
)

// again is the time between two questions to a host that has not answered.
const again = 250 * time.Millisecond

// Method is how a host is asked.
type Method string

// The methods. ARP needs a network of this server's adapters that the host is on, and only Linux has it.
const (
	ICMP Method = "icmp"
	ARP  Method = "arp"
	TCP  Method = "tcp"
)

// Target is one host to ask.
type Target struct {
	Method Method
	Addr   netip.Addr // ICMP, ARP
	Host   string     // TCP: host:port
}

func (t Target) String() string {
	switch t.Method {
	case TCP:
		return "tcp:" + t.Host
	case ARP:
		return "arp:" + t.Addr.String()
	default:
		return "icmp:" + t.Addr.String()
	}
}

// Parse reads a target: "172.25.36.1" or "icmp:172.25.36.1" is asked by ping, "arp:172.25.36.1" by ARP, and
// "tcp:host:port" or "host:port" by a connection.
func Parse(s string) (Target, error) {
	method, rest, named := strings.Cut(s, ":")
	switch Method(method) {
	case TCP:
		return parseTCP(s, rest)
	case ARP, ICMP:
		addr, err := netip.ParseAddr(rest)
		if err != nil {
			return Target{}, fmt.Errorf("%q is no IP address", rest)
		}
		if Method(method) == ARP && !addr.Is4() {
			return Target{}, fmt.Errorf("%s is no IPv4 address, and ARP knows no other", addr)
		}
		return Target{Method: Method(method), Addr: addr}, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return Target{Method: ICMP, Addr: addr}, nil
	}
	if !named {
		return Target{}, fmt.Errorf("%q is neither an IP address nor host:port", s)
	}
	return parseTCP(s, s)
}

func parseTCP(whole, s string) (Target, error) {
	host, port, err := net.SplitHostPort(s)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
		return Target{}, fmt.Errorf("%q is neither an IP address nor host:port", whole)
	}
	return Target{Method: TCP, Host: s}, nil
}

// Result is what one target did.
type Result struct {
	Target  Target
	Answers bool
	Detail  string        // a few words: by what it answered, or why it was not reached
	Took    time.Duration // to the answer
}

// Ask asks all targets at once, until each has answered or ctx ends. The results are in the order of the targets.
func Ask(ctx context.Context, targets []Target) []Result {
	results := make([]Result, len(targets))
	done := make(chan struct{}, len(targets))
	for i, t := range targets {
		go func() {
			results[i] = ask(ctx, t)
			done <- struct{}{}
		}()
	}
	for range targets {
		<-done
	}
	return results
}

// Any asks all targets at once and says whether one of them answers. It waits for no more than the first answer.
func Any(ctx context.Context, targets []Target) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan bool, len(targets))
	for _, t := range targets {
		go func() { answers <- ask(ctx, t).Answers }()
	}
	any := false
	for range targets { // all of them end soon after cancel
		if <-answers {
			any = true
			cancel()
		}
	}
	return any
}

func ask(ctx context.Context, t Target) Result {
	began := time.Now()
	var detail string
	var err error
	switch t.Method {
	case TCP:
		detail, err = connects(ctx, t.Host)
	case ARP:
		detail, err = resolves(ctx, t.Addr)
	default:
		detail, err = echoes(ctx, t.Addr)
	}
	r := Result{Target: t, Answers: err == nil, Detail: detail, Took: time.Since(began)}
	if err != nil {
		r.Detail = err.Error()
	}
	return r
}

// errSilent is the end of a question that nobody answered.
var errSilent = errors.New("no answer")

// connects makes a TCP connection; a refusal comes from a host that is there.
func connects(ctx context.Context, host string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", host)
	if err == nil {
		_ = conn.Close()
		return "connected", nil
	}
	if refused(err) {
		return "refused the connection, so it is there", nil
	}
	// The connection's own deadline, which is ctx's, may be over a moment before ctx is.
	var late net.Error
	if ctx.Err() != nil || errors.As(err, &late) && late.Timeout() {
		return "", errSilent
	}
	return "", err
}
