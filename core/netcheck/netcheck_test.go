package netcheck

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"172.25.36.1":           "icmp:172.25.36.1",
		"icmp:172.25.36.1":      "icmp:172.25.36.1",
		"fe80::1":               "icmp:fe80::1",
		"icmp:fe80::1%eth0":     "icmp:fe80::1%eth0",
		"arp:172.25.36.1":       "arp:172.25.36.1",
		"tcp:gateway:80":        "tcp:gateway:80",
		"gateway:80":            "tcp:gateway:80",
		"[fe80::1%none]:7":      "tcp:[fe80::1%none]:7",
		"tcp:[2001:db8::1]:443": "tcp:[2001:db8::1]:443",
	} {
		got, err := Parse(in)
		if err != nil || got.String() != want {
			t.Errorf("%q is %v, %v; want %s", in, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%v is read back as %v, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "gateway", "arp:gateway", "arp:fe80::1", "icmp:", "tcp:gateway", "gateway:0", ":80",
		"gateway:http", "tcp:gateway:70000", "udp:gateway"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

func targets(t testing.TB, texts ...string) []Target {
	t.Helper()
	var ts []Target
	for _, s := range texts {
		target, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, target)
	}
	return ts
}

func TestThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	closed := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}()
	nowhere := "[fe80::1%none]:7" // there is no adapter of that name, so nothing is sent
	for name, tt := range map[string]struct {
		targets []string
		want    bool
	}{
		"a listener":        {[]string{l.Addr().String()}, true},
		"a refusal":         {[]string{closed}, true},
		"an echo":           {[]string{"127.0.0.1"}, true},
		"an echo, IPv6":     {[]string{"::1"}, true},
		"nobody":            {[]string{nowhere}, false},
		"one of two":        {[]string{nowhere, "127.0.0.1"}, true},
		"none of two, echo": {[]string{nowhere, "fe80::1%none"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			wait := 30 * time.Second
			if !tt.want {
				wait = time.Second
			}
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			if got := Any(ctx, targets(t, tt.targets...)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r := Ask(ctx, targets(t, closed, nowhere))
	if len(r) != 2 || !r[0].Answers || r[1].Answers || !strings.Contains(r[0].Detail, "refused") || r[1].Detail == "" {
		t.Errorf("%+v", r)
	}
}

// early is a context whose deadline is over before it has ended, as the runtime's timers have it now and then.
type early struct{ context.Context }

func (early) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

// TestDeadlineOfAConnection: whichever clock is first, nobody has answered.
func TestDeadlineOfAConnection(t *testing.T) {
	r := ask(early{t.Context()}, Target{Method: TCP, Host: "127.0.0.1:1"})
	if r.Answers || r.Detail != errSilent.Error() {
		t.Errorf("%+v", r)
	}
}
