// Package dnsupdate keeps names of a zone leading to addresses, by dynamic updates (RFC 2136) that are signed (RFC
// 8945).
//
// It must never show a secret, touch names or types of record that it was not told, or call an update done that the
// server does not answer with afterwards.
package dnsupdate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Update says what is to be in a zone.
type Update struct {
	Server string   // address and port of the zone's primary name server
	Zone   string   // with a dot at its end
	Names  []string // in the zone, each with a dot at its end
	Addrs  []netip.Addr
	TTL    time.Duration // for so long may others keep an answer
	Key    *Key          // nil: updates are not signed
}

const (
	exchangeMost = 3 * time.Second // one question and its answer
	fudge        = 300             // seconds that the clocks of both ends may differ, as RFC 8945 recommends
)

// Put makes each name lead to the addresses and to no other, all at once, and asks the server whether it does.
func (u Update) Put(ctx context.Context) error {
	m := new(dns.Msg)
	m.SetUpdate(u.Zone)
	for _, name := range u.Names {
		for _, kind := range u.types() {
			m.RemoveRRset([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET}}})
			m.Insert(u.records(name, kind))
		}
	}
	if err := u.send(ctx, m); err != nil {
		return err
	}
	return u.verify(ctx)
}

// Remove takes these addresses of the names away, and leaves any other that somebody has put there since.
func (u Update) Remove(ctx context.Context) error {
	m := new(dns.Msg)
	m.SetUpdate(u.Zone)
	for _, name := range u.Names {
		for _, kind := range u.types() {
			m.Remove(u.records(name, kind))
		}
	}
	return u.send(ctx, m)
}

// types lists the types of record that the addresses need. Others are not touched.
func (u Update) types() []uint16 {
	var out []uint16
	for _, a := range u.Addrs {
		if k := kindOf(a); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

func kindOf(a netip.Addr) uint16 {
	if a.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

func (u Update) records(name string, kind uint16) []dns.RR {
	var out []dns.RR
	h := dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: uint32(u.TTL / time.Second)}
	for _, a := range u.Addrs {
		switch {
		case kindOf(a) != kind:
		case kind == dns.TypeA:
			out = append(out, &dns.A{Hdr: h, A: a.AsSlice()})
		default:
			out = append(out, &dns.AAAA{Hdr: h, AAAA: a.AsSlice()})
		}
	}
	return out
}

// verify asks for each name. An update of a name that is an alias is ignored without an error, for instance.
func (u Update) verify(ctx context.Context) error {
	for _, name := range u.Names {
		for _, kind := range u.types() {
			m := new(dns.Msg)
			m.SetQuestion(name, kind)
			m.RecursionDesired = false
			r, err := u.exchange(ctx, m)
			if err != nil {
				return err
			}
			if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
				return fmt.Errorf("server %s has taken the update, but does not answer for %s: %s", u.Server, plain(name),
					dns.RcodeToString[r.Rcode])
			}
			var want, got []string
			for _, a := range u.Addrs {
				if kindOf(a) == kind {
					want = append(want, a.String())
				}
			}
			for _, rr := range r.Answer {
				switch rr := rr.(type) {
				case *dns.CNAME:
					return fmt.Errorf("%s is an alias of %s in zone %s: remove that record",
						plain(name), plain(rr.Target), plain(u.Zone))
				case *dns.A:
					got = append(got, address(rr.A))
				case *dns.AAAA:
					got = append(got, address(rr.AAAA))
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(want, got) {
				return fmt.Errorf("server %s has taken the update, but answers for %s with [%s]", u.Server, plain(name),
					strings.Join(got, " "))
			}
		}
	}
	return nil
}

func address(ip net.IP) string {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap().String()
}

func plain(name string) string { return strings.TrimSuffix(name, ".") }

func (u Update) send(ctx context.Context, m *dns.Msg) error {
	r, err := u.exchange(ctx, m)
	if err != nil {
		return err
	}
	if r.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("server %s has not taken the update of zone %s: %s", u.Server, plain(u.Zone), u.reason(r))
	}
	return nil
}

// reason says in words why a server refuses.
func (u Update) reason(r *dns.Msg) string {
	name := dns.RcodeToString[r.Rcode]
	if t := r.IsTsig(); t != nil && t.Error != dns.RcodeSuccess {
		name = dns.RcodeToString[int(t.Error)]
	}
	why := map[string]string{
		"BADSIG":    "the secret is not the one that the server has for this key",
		"BADKEY":    "the server knows no such key, or it has another algorithm there",
		"BADTIME":   "the clocks of the server and of this machine differ by more than five minutes",
		"NOTAUTH":   "the server does not know the key, or has no such zone",
		"NOTZONE":   "a name is not in the zone",
		"REFUSED":   "the server does not allow it to this key or from this address",
		"NOTIMP":    "the server takes no updates of this zone",
		"NXRRSET":   "a record that was expected is not there",
		"SERVFAIL":  "the server failed; its log says more",
		"FORMERR":   "the server did not understand it",
		"YXDOMAIN":  "a name is there that should not be",
		"YXRRSET":   "a record is there that should not be",
		"NXDOMAIN":  "a name is not there",
		"BADTRUNC":  "the signature is shorter than the server wants it",
		"BADCOOKIE": "the server wants a cookie",
	}[name]
	if u.Key != nil {
		name += " for " + u.Key.String()
	}
	if why == "" {
		return name
	}
	return name + ", " + why
}

// exchange asks one question over TCP, so that nothing is lost or asked twice, and wants a signed answer to what it
// signs: without that anybody on the way could answer.
func (u Update) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeMost)
	defer cancel()
	c := &dns.Client{Net: "tcp", Timeout: exchangeMost}
	if u.Key != nil {
		c.TsigSecret = map[string]string{u.Key.name: u.Key.secret}
		m.SetTsig(u.Key.name, u.Key.algorithm, fudge, time.Now().Unix())
	}
	conn, err := c.DialContext(ctx, u.Server)
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	r, _, err := c.ExchangeWithConnContext(ctx, m, conn)
	refused := r != nil && r.Rcode != dns.RcodeSuccess
	switch {
	case err != nil && refused: // such an answer is often not signed, or not so that it could be verified
		return r, nil
	case errors.Is(err, dns.ErrSig), errors.Is(err, dns.ErrTime), errors.Is(err, dns.ErrSecret):
		return nil, fmt.Errorf("the answer of name server %s is not signed by %s as it should be: %w", u.Server, u.Key, err)
	case err != nil:
		return nil, fmt.Errorf("name server %s: %w", u.Server, err)
	case u.Key != nil && r.IsTsig() == nil && !refused:
		return nil, fmt.Errorf("the answer of name server %s is not signed by %s", u.Server, u.Key)
	}
	return r, nil
}
