package nrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHello(t *testing.T) {
	want := "3a0000002f00000002000040020f0001003d05" + strings.Repeat("00", 12) + "2f" + strings.Repeat("00", 9) + "401f" +
		strings.Repeat("00", 17)
	if got := hex.EncodeToString(Hello()); got != want {
		t.Errorf("the hello is\n%s, want\n%s", got, want)
	}
}

// reply makes an answer: what follows the mark is its rest.
func reply(rest string) []byte {
	b := append([]byte{0, 0, 0, 0, 0x2f, 0, 0, 0, kindReply}, mark...)
	b = append(b, rest...)
	binary.LittleEndian.PutUint16(b, uint16(len(b)-2))
	return b
}

func TestReply(t *testing.T) {
	for rest, want := range map[string]string{
		"\x02\x00CN=Rocky/OU=Servers/O=Cpqlab\x00\x00\x07": "CN=Rocky/OU=Servers/O=Cpqlab",
		"CN=Apollo_2/OU=Servers/O=Cpqlab":                  "CN=Apollo_2/OU=Servers/O=Cpqlab",
		"cn=rocky/o=cpqlab \x01":                           "cn=rocky/o=cpqlab",
		"\xff\xfe\x01CN=Rocky/O=Cpqlab\x00":                "CN=Rocky/O=Cpqlab",
		"\x00\x01 no name":                                 "",
		"":                                                 "",
	} {
		if name, err := Reply(reply(rest)); err != nil || name != want {
			t.Errorf("%q names %q, %v; want %q", rest, name, err, want)
		}
	}
	good := reply("CN=a/O=b")
	for what, bad := range map[string][]byte{
		"nothing": nil, "short": good[:leastReply-1], "cut": good[:len(good)-1], "http": []byte("HTTP/1.1 400 Bad Request\r\n"),
		"another kind": bytes.Replace(good, []byte{kindReply, 0, 0, 0x40}, []byte{kindHello, 0, 0, 0x40}, 1),
		"another mark": bytes.Replace(good, mark, []byte{0, 0, 0x40, 0x03, 0x0f, 0}, 1),
	} {
		if name, err := Reply(bad); !errors.Is(err, ErrForeign) {
			t.Errorf("%s names %q, %v", what, name, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(reply("CN=Rocky/OU=Servers/O=Cpqlab\x00"))
	f.Add(reply(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := Reply(b)
		if err == nil && name != "" && (!strings.EqualFold(name[:3], "cn=") || strings.ContainsAny(name, "\x00\n\r")) {
			t.Errorf("%q names %q", b, name)
		}
		if err != nil && name != "" {
			t.Errorf("%q names %q although %v", b, name, err)
		}
	})
}

// answer serves one connection, and returns where.
func answer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		serve(c)
		_ = c.Close()
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestAsk(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	heard := make([]byte, helloSize)
	at := answer(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, heard)
		b := reply("CN=Rocky/OU=Servers/O=Cpqlab\x00")
		_, _ = c.Write(b[:9])
		_, _ = c.Write(b[9:])
	})
	if name, err := Ask(ctx, at); err != nil || name != "CN=Rocky/OU=Servers/O=Cpqlab" || !bytes.Equal(heard, Hello()) {
		t.Errorf("named %q, %v; it heard %x", name, err, heard)
	}
	at = answer(t, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2p1 Debian\r\n")) })
	if name, err := Ask(ctx, at); !errors.Is(err, ErrForeign) {
		t.Errorf("another protocol named %q, %v", name, err)
	}
	at = answer(t, func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, helloSize)) })
	if name, err := Ask(ctx, at); err == nil || errors.Is(err, ErrForeign) || errors.Is(err, ErrSilent) {
		t.Errorf("a server that hangs up named %q, %v", name, err)
	}
	short, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	at = answer(t, func(c net.Conn) { _, _ = io.ReadAll(c) })
	if name, err := Ask(short, at); !errors.Is(err, ErrSilent) {
		t.Errorf("a silent server named %q, %v", name, err)
	}
	if err := Connect(ctx, answer(t, func(net.Conn) {})); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	_ = l.Close()
	if name, err := Ask(ctx, gone); err == nil || errors.Is(err, ErrSilent) || errors.Is(err, ErrForeign) {
		t.Errorf("nobody named %q, %v", name, err)
	}
}
