package rsw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/storagetest"
	"github.com/orscore/ors/internal/cobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// register is a switch in memory.
type register struct {
	mu    sync.Mutex
	names []string
	units map[string]WireState
	hold  map[string]chan struct{} // calls for a unit wait for its channel to be closed
	err   error                    // what every call fails with
}

func newRegister(names ...string) *register {
	r := &register{names: names, units: map[string]WireState{}, hold: map[string]chan struct{}{}}
	for _, n := range names {
		r.units[n] = WireState{LED: storage.LEDOff}
	}
	return r
}

func (r *register) wait(unit string) {
	r.mu.Lock()
	c := r.hold[unit]
	r.mu.Unlock()
	if c != nil {
		<-c
	}
}

func (r *register) Inspect(unit string) (WireState, error) {
	r.wait(unit)
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.units[unit]
	if !ok {
		return s, storage.ErrNoUnit
	}
	return s, r.err
}

func (r *register) Swap(unit string, old, next WireKey) (WireState, error) {
	r.wait(unit)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.units[unit]
	if r.err != nil {
		return s, r.err
	}
	if s.Key != old {
		return s, fmt.Errorf("unit %s: %w", unit, storage.ErrConflict)
	}
	led := map[storage.Position]storage.LED{storage.Port1: storage.LEDGreen, storage.Port3: storage.LEDAmber}[next.Owner]
	if led == "" {
		led = storage.LEDOff
	}
	r.units[unit] = WireState{Key: next, Position: next.Owner, LED: led}
	return r.units[unit], nil
}

func (r *register) Units() []string { return slices.Clone(r.names) }

// counting counts what a listener accepts.
type counting struct {
	net.Listener
	n atomic.Int32
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// listen serves b on a socket until the test ends.
func listen(t testing.TB, network string, b Backend) (endpoint string, l *counting) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	nl, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	l = &counting{Listener: nl}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeListener(ctx, l, b) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return network + ":" + nl.Addr().String(), l
}

func open(t testing.TB, o Options) storage.Switch {
	t.Helper()
	if o.Unit == "" {
		o.Unit = "storage2"
	}
	if o.Self == failover.Nobody {
		o.Self = failover.First
	}
	if o.Primary == failover.Nobody {
		o.Primary = failover.First
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			endpoint, _ := listen(t, network, newRegister("storage2"))
			storagetest.Run(t, func(self failover.Server) storage.Switch {
				s, err := New(Options{Endpoint: endpoint, Unit: "storage2", Self: self, Primary: failover.First,
					Timeout: 20 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// The primary is at port 1, whichever server it is.
func TestPortsFollowThePrimary(t *testing.T) {
	b := newRegister("storage2")
	endpoint, _ := listen(t, "unix", b)
	for _, primary := range []failover.Server{failover.First, failover.Second} {
		d := open(t, Options{Endpoint: endpoint, Primary: primary})
		s, err := d.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next := s.Key.Won(primary, 5)
		if s, err = d.Swap(t.Context(), s.Key, next); err != nil || s.Key != next || s.Position != storage.Port1 {
			t.Errorf("%+v %v", s, err)
		}
		want := WireKey{Owner: storage.Port1, N: next.N, Tag: 5, By: storage.Port1}
		if got := b.units["storage2"].Key; got != want {
			t.Errorf("primary %v: the switch holds %v, want %v", primary, got, want)
		}
		next = s.Key.Claimed(primary.Other())
		if s, err = d.Swap(t.Context(), s.Key, next); err != nil || s.Position != storage.Port3 || s.LED != storage.LEDAmber {
			t.Errorf("%+v %v", s, err)
		}
		if s, err = d.Swap(t.Context(), s.Key, failover.Key{}); err != nil || s.Position != storage.Disconnected {
			t.Errorf("%+v %v", s, err)
		}
	}
}

func TestUnitThatIsNotThere(t *testing.T) {
	endpoint, _ := listen(t, "unix", newRegister("storage1"))
	d := open(t, Options{Endpoint: endpoint, Unit: "storage9"})
	if _, err := d.Inspect(t.Context()); !errors.Is(err, storage.ErrNoUnit) {
		t.Errorf("%v", err)
	}
	if _, err := d.Swap(t.Context(), failover.Key{}, failover.Key{N: 1}); !errors.Is(err, storage.ErrNoUnit) {
		t.Errorf("%v", err)
	}
}

func TestBackendThatFails(t *testing.T) {
	b := newRegister("storage2")
	b.err = errors.New("the state file is " + strings.Repeat("ü", 100) + " full")
	endpoint, _ := listen(t, "unix", b)
	d := open(t, Options{Endpoint: endpoint})
	if _, err := d.Swap(t.Context(), failover.Key{}, failover.Key{N: 1}); !errors.Is(err, storage.ErrUnknown) ||
		!strings.Contains(err.Error(), "the state file is") {
		t.Errorf("%v", err)
	}
}

func TestList(t *testing.T) {
	var names []string
	for i := range maxListed {
		names = append(names, fmt.Sprintf("storage unit number %d", i))
	}
	endpoint, _ := listen(t, "unix", newRegister(names...))
	got, err := List(t.Context(), endpoint)
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("%d of %d units, %v", len(got), len(names), err)
	}
	if _, err := List(t.Context(), "unix:/no/such/socket"); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

// Units of one endpoint share a connection, and a slow one keeps no other waiting.
func TestUnitsShareOneConnection(t *testing.T) {
	b := newRegister("storage1", "storage2")
	hold := make(chan struct{})
	b.hold["storage1"] = hold
	endpoint, l := listen(t, "unix", b)
	slow, quick := open(t, Options{Endpoint: endpoint, Unit: "storage1"}), open(t, Options{Endpoint: endpoint})
	done := make(chan error, 1)
	go func() {
		_, err := slow.Inspect(context.Background())
		done <- err
	}()
	if _, err := quick.Inspect(t.Context()); err != nil {
		t.Error(err)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := l.n.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A time-out leaves the exchange of another unit on the same connection alone, and the next call uses a new connection.
func TestTimeoutRetiresTheConnection(t *testing.T) {
	b := newRegister("storage1", "storage2")
	hold1, hold2 := make(chan struct{}), make(chan struct{})
	b.hold["storage1"], b.hold["storage2"] = hold1, hold2
	endpoint, l := listen(t, "unix", b)
	impatient := open(t, Options{Endpoint: endpoint, Unit: "storage1", Timeout: 30 * time.Millisecond})
	patient := open(t, Options{Endpoint: endpoint})
	done := make(chan error, 1)
	go func() {
		_, err := patient.Inspect(context.Background())
		done <- err
	}()
	_, err := impatient.Swap(t.Context(), failover.Key{}, failover.Key{N: 1})
	if !errors.Is(err, storage.ErrUnknown) || !strings.Contains(err.Error(), `unit "storage1" at `+endpoint) {
		t.Errorf("%v", err)
	}
	close(hold1)
	if _, err := open(t, Options{Endpoint: endpoint, Unit: "storage1"}).Inspect(t.Context()); err != nil {
		t.Error(err)
	}
	close(hold2)
	if err := <-done; err != nil {
		t.Errorf("the other unit's exchange: %v", err)
	}
	if n := l.n.Load(); n < 2 {
		t.Errorf("%d connections, the retired one was used again", n)
	}
}

// Requests of a connection for one unit are served in order: an Inspect behind a Swap sees it.
func TestOrderOfOneUnit(t *testing.T) {
	b := newRegister("storage2")
	hold := make(chan struct{})
	b.hold["storage2"] = hold
	endpoint, _ := listen(t, "unix", b)
	c, err := net.Dial("unix", strings.TrimPrefix(endpoint, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	swap := request{cmd: cmdSwap, id: 1, unit: "storage2", next: keyHome}
	if _, err := c.Write(append(swap.encode(), request{cmd: cmdInspect, id: 2,
		unit: "storage2"}.encode()...)); err != nil {
		t.Fatal(err)
	}
	close(hold)
	frames := cobs.NewReader(c, maxPacket)
	for id := uint64(1); id <= 2; id++ {
		p, err := frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		body, _ := checked(p)
		if a, err := decodeAnswer(body); err != nil || a.id != id || a.state.Key != keyHome {
			t.Errorf("%+v %v", a, err)
		}
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	endpoint, _ := listen(t, "unix", newRegister("storage2"))
	c, err := net.Dial("unix", strings.TrimPrefix(endpoint, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	frames := cobs.NewReader(c, maxPacket)
	header := func(version, cmd byte) []byte { return []byte{version, cmd, 0, 0, 0, 0, 0, 0, 0, 7} }
	for name, packet := range map[string][]byte{
		"version": append(header(2, byte(cmdInspect)), 1, 'x'),
		"command": header(protocolVersion, 0x55),
		"short":   append(header(protocolVersion, byte(cmdInspect)), 9, 'x'),
		"long":    append(header(protocolVersion, byte(cmdInspect)), 1, 'x', 'y'),
		"no name": append(header(protocolVersion, byte(cmdInspect)), 0),
		"port 2": append(append(header(protocolVersion, byte(cmdSwap)), 1, 'x', 2),
			make([]byte, 19)...),
	} {
		if _, err := c.Write(appendFrame(nil, packet)); err != nil {
			t.Fatal(err)
		}
		p, err := frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		body, ok := checked(p)
		if a, err := decodeAnswer(body); !ok || err != nil || a.status != statusBad || a.id != 7 || a.text == "" {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
}

// odd is a server that misbehaves: f gets each request, and writes what it likes.
func odd(t *testing.T, f func(c net.Conn, r request)) string {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				frames := cobs.NewReader(c, maxPacket)
				for {
					p, err := frames.Next()
					if err != nil {
						return
					}
					body, ok := checked(p)
					if r, err := decodeRequest(body); ok && err == nil {
						f(c, r)
					}
				}
			})
		}
	})
	return "unix:" + l.Addr().String()
}

func ok(r request, n uint32) []byte {
	return answer{cmd: r.cmd, id: r.id, state: WireState{Key: WireKey{N: n}, LED: storage.LEDOff}}.encode()
}

func send(c net.Conn, parts ...[]byte) {
	_, _ = c.Write(bytes.Join(parts, nil)) // a driver that has left is what the test looks at from the other side
}

func TestOddServers(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(c net.Conn, r request)
		says string // part of the error's text; "": the answer is taken
	}{
		{"garbage before and after", func(c net.Conn, r request) {
			send(c, []byte("\x00boot\xff\x07\x00U-Boot 1.0\r\n"), ok(r, 9), []byte("\x05\x05trailing"))
		}, ""},
		{"half a frame first", func(c net.Conn, r request) { send(c, ok(r, 1)[:9], ok(r, 9)) }, ""},
		{"garbled frame first", func(c net.Conn, r request) {
			bad := ok(r, 1)
			bad[8] ^= 0x40
			send(c, bad, ok(r, 9))
		}, ""},
		{"byte by byte", func(c net.Conn, r request) {
			for _, b := range ok(r, 9) {
				send(c, []byte{b})
			}
		}, ""},
		{"answers twice", func(c net.Conn, r request) { send(c, ok(r, 9), ok(r, 9)) }, ""},
		{"echo", func(c net.Conn, r request) { send(c, r.encode(), ok(r, 9)) }, ""},
		{"answers another first", func(c net.Conn, r request) {
			other := r
			other.id ^= 1 << 40
			send(c, ok(other, 1), ok(r, 9))
		}, ""},
		{"mute", func(net.Conn, request) {}, "no answer within"},
		{"half a frame only", func(c net.Conn, r request) { send(c, ok(r, 9)[:12]) }, "no answer within"},
		{"hangs up", func(c net.Conn, _ request) { _ = c.Close() }, "connection lost"},
		{"other command", func(c net.Conn, r request) {
			r.cmd = cmdSwap
			send(c, ok(r, 9))
		}, "answered as SWAP"},
		{"refuses", func(c net.Conn, r request) {
			send(c, answer{cmd: r.cmd, id: r.id, status: statusBad, text: "what?"}.encode())
		}, "refused it: what?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := 20 * time.Second
			if strings.HasPrefix(c.says, "no answer") {
				timeout = 30 * time.Millisecond
			}
			d := open(t, Options{Endpoint: odd(t, c.f), Timeout: timeout})
			for range 3 { // the same again over whatever is left of the connection
				s, err := d.Inspect(t.Context())
				if c.says == "" && (err != nil || s.Key.N != 9) {
					t.Errorf("%+v %v", s, err)
				}
				if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err,
					storage.ErrUnknown) == (c.name == "refuses")) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// A switch that says "done" and reads back another key has not been understood.
func TestSwapThatReadsBackWrong(t *testing.T) {
	next := failover.Key{Owner: failover.First, N: 1}
	for name, state := range map[string]WireState{
		"key":      {Key: WireKey{Owner: storage.Port1, N: 2}, Position: storage.Port1, LED: storage.LEDGreen},
		"position": {Key: WireKey{Owner: storage.Port1, N: 1}, Position: storage.Port3, LED: storage.LEDAmber},
	} {
		d := open(t, Options{Endpoint: odd(t, func(c net.Conn, r request) {
			send(c, answer{cmd: r.cmd, id: r.id, state: state}.encode())
		})})
		if _, err := d.Swap(t.Context(), failover.Key{}, next); !errors.Is(err, storage.ErrUnknown) ||
			!strings.Contains(err.Error(), "reads back") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReconnects(t *testing.T) {
	b := newRegister("storage2")
	path := filepath.Join(t.TempDir(), "s")
	serve := func() (stop func()) {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- ServeListener(ctx, l, b) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	d := open(t, Options{Endpoint: "unix:" + path})
	if _, err := d.Inspect(t.Context()); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("no switch yet: %v", err)
	}
	for range 3 {
		stop := serve()
		if _, err := d.Inspect(t.Context()); err != nil {
			t.Errorf("%v", err)
		}
		stop()
		if _, err := d.Inspect(t.Context()); !errors.Is(err, storage.ErrUnknown) {
			t.Errorf("the switch is gone: %v", err)
		}
	}
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	asked := make(chan struct{}, 1)
	d := open(t, Options{Endpoint: odd(t, func(net.Conn, request) { asked <- struct{}{} })})
	done := make(chan error, 1)
	go func() {
		_, err := d.Inspect(context.Background())
		done <- err
	}()
	<-asked
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		text, want string // want: canonical; "": refused
		says       string
	}{
		{"unix:/run/enclosure.sock", "unix:/run/enclosure.sock", ""},
		{"tcp:10.0.0.1:7713", "tcp:10.0.0.1:7713", ""},
		{"tcp:[fe80::1]:7713", "tcp:[fe80::1]:7713", ""},
		{"serial:/dev/ttyS1", "serial:/dev/ttyS1?baud=19200", ""},
		{"serial:/dev/ttyS1?baud=115200", "serial:/dev/ttyS1?baud=115200", ""},
		{"serial:COM3?baud=9600", "serial:COM3?baud=9600", ""},
		{"", "", "no kind"},
		{"/run/enclosure.sock", "", "no kind"},
		{"unix:enclosure.sock", "", "absolute"},
		{"unix:/" + strings.Repeat("x", 107), "", "107"},
		{"tcp:10.0.0.1", "", "host and a port"},
		{"tcp::7713", "", "host and a port"},
		{"tcp:host:0", "", "1 to 65535"},
		{"tcp:host:http", "", "1 to 65535"},
		{"serial:", "", "path"},
		{"serial:ttyS1", "", "path"},
		{"serial:/dev/ttyS1?baud=fast", "", "speed"},
		{"serial:/dev/ttyS1?parity=even", "", "speed"},
		{"scsi:/dev/sda", "", "not known"},
	} {
		ep, err := parseEndpoint(c.text)
		if ep.text != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q: %q, %v", c.text, ep.text, err)
		}
		var e *storage.Error
		if err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "unix:/path") ||
			!errors.As(err, &e)) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestOptionsThatCannotBeRight(t *testing.T) {
	for _, o := range []Options{
		{Endpoint: "unix:/s", Self: 1, Primary: 1},
		{Endpoint: "unix:/s", Unit: strings.Repeat("x", maxName+1), Self: 1, Primary: 1},
		{Endpoint: "unix:/s", Unit: "a\nb", Self: 1, Primary: 1},
		{Endpoint: "unix:/s", Unit: "u", Primary: 1},
		{Endpoint: "unix:/s", Unit: "u", Self: 1, Primary: 3},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func BenchmarkSwapUnix(b *testing.B) {
	endpoint, _ := listen(b, "unix", newRegister("storage2"))
	d := open(b, Options{Endpoint: endpoint})
	s, err := d.Inspect(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	times := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if s, err = d.Swap(b.Context(), s.Key, s.Key.Claimed(failover.First)); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "us-median")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "us-p99")
}
