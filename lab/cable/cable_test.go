//go:build linux

package cable

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run opens a cable and both of its ports.
func run(t *testing.T, baud int) (*Cable, [2]*os.File) {
	t.Helper()
	c, err := Open(baud)
	if err != nil {
		t.Fatal(err)
	}
	var ports [2]*os.File
	for _, e := range []End{A, B} {
		if ports[e], err = os.OpenFile(c.Path(e), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, p := range ports {
			_ = p.Close()
		}
	})
	return c, ports
}

// read returns what arrives until n bytes are there or the port has been silent for the given time.
func read(t *testing.T, f *os.File, n int, silence time.Duration) []byte {
	t.Helper()
	var got []byte
	buf := make([]byte, 4096)
	for len(got) < n {
		if err := f.SetReadDeadline(time.Now().Add(silence)); err != nil {
			t.Fatal(err)
		}
		k, err := f.Read(buf)
		got = append(got, buf[:k]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func send(t *testing.T, f *os.File, b []byte) {
	t.Helper()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
}

// allBytes holds every value, those that terminals like to change among them.
func allBytes() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func TestBothWaysUnchanged(t *testing.T) {
	_, ports := run(t, 115200)
	for _, from := range []End{A, B} {
		send(t, ports[from], allBytes())
		if got := read(t, ports[1-from], 256, 5*time.Second); !bytes.Equal(got, allBytes()) {
			t.Fatalf("from %v: %x", from, got)
		}
	}
}

// The line is paced: bytes cannot be through before their time. (That they are through soon after is no test's
// business.)
func TestPaced(t *testing.T) {
	_, ports := run(t, 9600)
	from := time.Now()
	send(t, ports[A], make([]byte, 96)) // a tenth of a second
	read(t, ports[B], 96, 5*time.Second)
	if d := time.Since(from); d < 95*time.Millisecond {
		t.Fatalf("96 bytes at 9600 baud took %v", d)
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		wantB, wantA  int // bytes that arrive of 256 sent from a
	}{
		{"good", "mend", 256, 0},
		{"cut", "cut", 0, 0},
		{"one way", "oneway a>b", 256, 0},
		{"other way", "oneway b>a", 0, 0},
		{"loopback", "loopback", 0, 256},
		{"drops all", "drop 1", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, ports := run(t, 115200)
			if _, err := c.Do(tt.command); err != nil {
				t.Fatal(err)
			}
			send(t, ports[A], allBytes())
			b, a := read(t, ports[B], 256, 300*time.Millisecond), read(t, ports[A], 256, 300*time.Millisecond)
			if len(b) != tt.wantB || len(a) != tt.wantA {
				t.Errorf("b got %d bytes, a %d; want %d and %d", len(b), len(a), tt.wantB, tt.wantA)
			}
		})
	}
}

func TestGarble(t *testing.T) {
	c, ports := run(t, 115200)
	if _, err := c.Do("garble 1"); err != nil {
		t.Fatal(err)
	}
	send(t, ports[A], allBytes())
	for i, x := range read(t, ports[B], 256, 5*time.Second) {
		if x == byte(i) {
			t.Fatalf("byte %d came through whole", i)
		}
	}
}

// Delayed bytes come in their order, and not before their time.
func TestDelay(t *testing.T) {
	c, ports := run(t, 115200)
	if _, err := c.Do("delay 100ms"); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	send(t, ports[A], allBytes())
	if got := read(t, ports[B], 256, 5*time.Second); !bytes.Equal(got, allBytes()) {
		t.Fatalf("%x", got)
	}
	if d := time.Since(from); d < 100*time.Millisecond {
		t.Fatalf("they came after %v", d)
	}
}

// Some of the bytes are lost, and the others come as they were, in their order.
func TestDropSome(t *testing.T) {
	c, ports := run(t, 115200)
	if _, err := c.Do("drop 0.5"); err != nil {
		t.Fatal(err)
	}
	send(t, ports[A], allBytes())
	got := read(t, ports[B], 256, 300*time.Millisecond)
	if len(got) == 0 || len(got) == 256 { // by chance once in 10^77
		t.Fatalf("%d of 256 bytes arrived", len(got))
	}
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("out of order: %x", got)
		}
	}
}

func TestReopenedPortIsFlushed(t *testing.T) {
	c, ports := run(t, 115200)
	send(t, ports[A], []byte("stale"))
	for {
		if n, err := unix.IoctlGetInt(int(c.ends[B].slave.Fd()), unix.TIOCINQ); err != nil || n == 5 {
			break
		}
	}
	if _, err := c.Do("flush b"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, ports[B], 1, 200*time.Millisecond); len(got) > 0 {
		t.Fatalf("still there: %q", got)
	}
	if err := ports[B].Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if ports[B], err = os.OpenFile(c.Path(B), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	send(t, ports[A], []byte("new"))
	if got := read(t, ports[B], 3, 5*time.Second); string(got) != "new" {
		t.Fatalf("after reopening: %q", got)
	}
}

func TestCommands(t *testing.T) {
	c, _ := run(t, 115200)
	for _, bad := range []string{
		"", "cutt", "drop", "drop 2", "garble x", "delay 3", "oneway", "flush c", "cut a", "cut a b", "status x",
	} {
		if _, err := c.Do(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{A: filepath.Join(dir, "a"), B: filepath.Join(dir, "b"), Baud: 19200, Control: filepath.Join(dir, "ctl")}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, cfg) }()
	wait, done := context.WithTimeout(ctx, 10*time.Second)
	defer done()
	if err := Await(wait, cfg.Control); err != nil {
		t.Fatal(err)
	}
	if _, err := Command(wait, cfg.Control, "nonsense"); err == nil {
		t.Error("nonsense was taken")
	}
	if s, err := Command(wait, cfg.Control, "delay 5ms"); err != nil || s == "" {
		t.Error(s, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
}
