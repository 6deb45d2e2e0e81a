package dnsupdate

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/orscore/ors/plugins/ipset/internal/nametest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	old4 = netip.MustParseAddr("172.25.36.45")
	new4 = netip.MustParseAddr("172.25.37.45")
	new6 = netip.MustParseAddr("2001:db8:37::45")
)

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func mustKey(t testing.TB, path string) *Key {
	t.Helper()
	k, err := ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Against a real name server: records are replaced at once, others stay, and what is removed is only ours.
func TestUpdates(t *testing.T) {
	s := nametest.Start(t, "127.0.0.1", nametest.FreePort(t))
	ctx := patient(t)
	u := Update{
		Server: s.Address, Zone: "testlab.com.", Names: []string{"rocky.testlab.com.", "notes.testlab.com."},
		Addrs: []netip.Addr{old4}, TTL: 30 * time.Second, Key: mustKey(t, s.KeyFile),
	}
	want := func(name string, kind uint16, want ...string) {
		t.Helper()
		if got, err := nametest.Records(s.Address, name, kind); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if err := u.Put(ctx); err != nil {
		t.Fatal(err)
	}
	want("rocky.testlab.com", dns.TypeA, "rocky.testlab.com. 30 IN A 172.25.36.45")
	moved := u
	moved.Addrs, moved.TTL = []netip.Addr{new6, new4}, time.Minute
	for range 2 { // a repeat changes nothing
		if err := moved.Put(ctx); err != nil {
			t.Fatal(err)
		}
	}
	want("rocky.testlab.com", dns.TypeA, "rocky.testlab.com. 60 IN A 172.25.37.45")
	want("notes.testlab.com", dns.TypeAAAA, "notes.testlab.com. 60 IN AAAA 2001:db8:37::45")
	if err := u.Remove(ctx); err != nil { // the old address is not there any more: the new ones stay
		t.Fatal(err)
	}
	want("rocky.testlab.com", dns.TypeA, "rocky.testlab.com. 60 IN A 172.25.37.45")
	if err := moved.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	want("rocky.testlab.com", dns.TypeA)
	want("rocky.testlab.com", dns.TypeAAAA)
	want("rocky.testlab.com", dns.TypeTXT, `rocky.testlab.com. 300 IN TXT "mail"`)
	want("apollo.testlab.com", dns.TypeA, "apollo.testlab.com. 300 IN A 172.25.36.46")
}

// Each refusal says what is wrong, and no message shows the secret.
func TestRefusals(t *testing.T) {
	s := nametest.Start(t, "127.0.0.1", nametest.FreePort(t))
	key := mustKey(t, s.KeyFile)
	with := func(change func(*Key)) *Key {
		k := *key
		change(&k)
		return &k
	}
	other := base64.StdEncoding.EncodeToString([]byte("not the secret of the server at all"))
	good := Update{
		Server: s.Address, Zone: "testlab.com.", Names: []string{"rocky.testlab.com."}, Addrs: []netip.Addr{new4},
		TTL: time.Minute, Key: key,
	}
	for name, c := range map[string]struct {
		change func(*Update)
		words  string
	}{
		"no key":       {func(u *Update) { u.Key = nil }, "REFUSED"},
		"wrong secret": {func(u *Update) { u.Key = with(func(k *Key) { k.secret = other }) }, "BADSIG"},
		"unknown key":  {func(u *Update) { u.Key = with(func(k *Key) { k.name = "orc." }) }, "BADKEY"},
		"algorithm":    {func(u *Update) { u.Key = with(func(k *Key) { k.algorithm = dns.HmacSHA512 }) }, "BADKEY"},
		"no such zone": {func(u *Update) { u.Zone, u.Names = "testlab.org.", []string{"rocky.testlab.org."} }, "NOTAUTH"},
		"outside":      {func(u *Update) { u.Names = []string{"rocky.testlab.org."} }, "NOTZONE"},
		"an alias":     {func(u *Update) { u.Names = []string{"alias.testlab.com."} }, "alias of apollo.testlab.com"},
		"nobody there": {func(u *Update) { u.Server = fmt.Sprintf("127.0.0.1:%d", nametest.FreePort(t)) }, "refused"},
	} {
		u := good
		c.change(&u)
		err := u.Put(patient(t))
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v; want %q", name, err, c.words)
			continue
		}
		for _, secret := range []string{s.Secret(), other} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the message has the secret", name)
			}
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Contains(text, s.Secret()) {
		t.Error("the key shows its secret")
	}
}

// Whoever sits on the way can answer, but not sign.
func TestForgedAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan struct{})
	server := &dns.Server{
		Listener: l, NotifyStartedFunc: func() { close(ready) },
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler:       dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetReply(r)) }),
	}
	go func() { _ = server.ActivateAndServe(); close(done) }()
	<-ready
	defer func() { _ = server.Shutdown(); <-done }()
	u := Update{Server: l.Addr().String(), Zone: "testlab.com.", Names: []string{"rocky.testlab.com."},
		Addrs: []netip.Addr{new4}, TTL: time.Minute, Key: &Key{"ors.", dns.HmacSHA256, "c2VjcmV0"}}
	if err := u.Put(patient(t)); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("%v; want that it is not signed", err)
	}
}

// A server that says nothing is waited for no longer than the caller wants.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	u := Update{Server: l.Addr().String(), Zone: "testlab.com.", Names: []string{"rocky.testlab.com."},
		Addrs: []netip.Addr{new4}, TTL: time.Minute}
	if err := u.Put(ctx); err == nil || time.Since(began) > exchangeMost-500*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	const good = "# of apollo\nkey \"Ors.Testlab.com\" {\n\talgorithm hmac-sha256; // usual\n\tsecret \"c2VjcmV0\"; /* ; */\n};\n"
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		words   string
	}{
		"good":            {good, 0o600, ""},
		"good, read only": {good, 0o400, ""},
		"short":           {"key a{algorithm hmac-sha512;secret c2VjcmV0;};", 0o600, ""},
		"open to all":     {good, 0o644, "mode 0644"},
		"open to a group": {good, 0o640, "mode 0640"},
		"empty":           {"", 0o600, "does not begin"},
		"only a secret":   {"c2VjcmV0\n", 0o600, "does not begin"},
		"no name":         {"key { algorithm hmac-sha256; secret c2VjcmV0; };", 0o600, "does not begin"},
		"weak":            {"key a { algorithm hmac-md5; secret c2VjcmV0; };", 0o600, "algorithm"},
		"no algorithm":    {"key a { secret c2VjcmV0; };", 0o600, "lacks"},
		"no base64":       {"key a { algorithm hmac-sha256; secret \"c2VjcmV0!\"; };", 0o600, "base64"},
		"two":             {good + good, 0o600, "more than one"},
		"torn":            {"key a { algorithm hmac-sha256; secret \"c2VjcmV0\"", 0o600, "no end"},
		"torn quotes":     {"key a { algorithm hmac-sha256; secret \"c2VjcmV0", 0o600, "no end"},
		"torn comment":    {"key a /* c2VjcmV0", 0o600, "no end"},
		"other statement": {"key a { c2VjcmV0 x; };", 0o600, "neither"},
	} {
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		k, err := ReadKey(path)
		switch {
		case c.words == "" && err == nil && k.secret == "c2VjcmV0":
		case c.words == "" || err == nil || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), path):
			t.Errorf("%s: %v, %v; want %q", name, k, err, c.words)
		case strings.Contains(err.Error(), "c2VjcmV0"):
			t.Errorf("%s: the message has the secret: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "absent")} {
		if _, err := ReadKey(path); err == nil || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("key \"ors\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0\";\n};\n")
	f.Add("key a{algorithm hmac-sha512;secret c2VjcmV0;};//")
	f.Add("/**/key")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKey(text)
		if err == nil && (k.algorithm == "" || k.secret == "" || !strings.HasSuffix(k.name, ".")) {
			t.Errorf("%q makes %#v", text, *k)
		}
	})
}
