//go:build linux

package cable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orscore/ors/core/interconnect/cabletest"
	"github.com/orscore/ors/core/interconnect/serial"
)

// bothEnds runs the cable test at both ends of a cable at the same time.
func bothEnds(t *testing.T, faults string, lines *Lines) (reports [2]*cabletest.Report) {
	t.Helper()
	c, err := Open(115200)
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	if _, err := c.Do(faults); err != nil {
		t.Error(err)
		return
	}
	o := cabletest.Options{Baud: 115200, Wait: 3 * time.Second, Measure: 2 * time.Second}
	if strings.HasPrefix(faults, "noise") {
		o.Measure = 5 * time.Second // for enough errors
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, e := range []End{A, B} {
		p, err := serial.Open(c.Path(e), 115200)
		if err != nil {
			t.Error(err)
			return
		}
		wg.Go(func() {
			defer p.Close()
			port := p
			if lines != nil {
				port = lines.Wrap(e, p)
			}
			var err error
			if reports[e], err = cabletest.Run(ctx, port, o); err != nil {
				t.Errorf("end %v: %v", e, err)
			}
		})
	}
	wg.Wait()
	return reports
}

// Two ports of the same speed understand each other, and of two different ones hardly a byte.
func TestMisread(t *testing.T) {
	if got := misread(allBytes(), 9600, 9600); !bytes.Equal(got, allBytes()) {
		t.Errorf("at the same speed: % x", got)
	}
	if got := misread(allBytes(), 100000, 101000); !bytes.Equal(got, allBytes()) {
		t.Errorf("one percent apart, as real ports may be: % x", got)
	}
	for _, to := range []int{9600, 57600, 128000, 230400} {
		same := 0
		got := misread(allBytes(), 115200, to)
		for i, x := range got {
			if i < 256 && x == byte(i) {
				same++
			}
		}
		if same > 30 || len(got) == 0 {
			t.Errorf("115200 read at %d: %d bytes, %d of them right: % x", to, len(got), same, got)
		}
	}
}

var runs = flag.Int("runs", 3, "how often each fault of the cable is injected")

// TestCableTest injects each fault, some times at once, and wants the right answer of both ends every time.
func TestCableTest(t *testing.T) {
	v := func(a, b cabletest.Verdict) [2]cabletest.Verdict { return [2]cabletest.Verdict{a, b} }
	for _, tt := range []struct {
		name, faults string
		wiring       Wiring
		lined        bool
		want         [2]cabletest.Verdict
		handshake    cabletest.Handshake // "" is not looked at
	}{
		{"good", "mend", 0, false, v(cabletest.Good, cabletest.Good), cabletest.LinesNone},
		{"good with all lines", "mend", Full, true, v(cabletest.Good, cabletest.Good), cabletest.LinesFull},
		{"loopback", "loopback", 0, false, v(cabletest.Loopback, cabletest.Loopback), ""},
		{"cut", "cut", 0, false, v(cabletest.Silent, cabletest.Silent), ""},
		{"a to b only", "oneway a>b", 0, false, v(cabletest.Silent, cabletest.OneWay), ""},
		{"b to a only", "oneway b>a", 0, false, v(cabletest.OneWay, cabletest.Silent), ""},
		{"slower", "speed b=9600", 0, false, v(cabletest.WrongSpeed, cabletest.WrongSpeed), ""},
		{"a little faster", "speed a=128000", 0, false, v(cabletest.WrongSpeed, cabletest.WrongSpeed), ""},
		{"twice as fast", "speed b=230400", 0, false, v(cabletest.WrongSpeed, cabletest.WrongSpeed), ""},
		{"noise 1e-3", "noise 0.001", 0, false, v(cabletest.Noise, cabletest.Noise), ""},
		{"noise 3e-4", "noise 0.0003", 0, false, v(cabletest.Noise, cabletest.Noise), ""},
		{"noise 1e-2", "noise 0.01", 0, false, v(cabletest.Noise, cabletest.Noise), ""},
		{"three wires", "mend", Three, true, v(cabletest.ThreeWire, cabletest.ThreeWire), cabletest.LinesThreeWire},
		{"lines looped", "mend", Looped, true, v(cabletest.ThreeWire, cabletest.ThreeWire), cabletest.LinesLooped},
		{"lines held", "mend", Held, true, v(cabletest.ThreeWire, cabletest.ThreeWire), cabletest.LinesHeld},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var wg sync.WaitGroup
			for range *runs {
				wg.Go(func() {
					var lines *Lines
					if tt.lined {
						lines = NewLines(tt.wiring)
					}
					for e, r := range bothEnds(t, tt.faults, lines) {
						if r == nil {
							continue
						}
						if r.Verdict != tt.want[e] || tt.handshake != "" && r.Handshake != tt.handshake {
							t.Errorf("end %v: %s, lines %s, want %s, %s: %+v, there %+v", End(e), r.Verdict, r.Handshake, tt.want[e],
								tt.handshake, *r, r.There)
						}
						var rate float64
						if n, _ := fmt.Sscanf(tt.faults, "noise %g", &rate); n == 1 && r.Verdict == cabletest.Noise {
							if got := r.Here.BitErrorRate; got < rate/4 || got > rate*4 {
								t.Errorf("end %v: bit error rate %.1e, injected %.1e", End(e), got, rate)
							}
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestCableTestCommand runs the command itself at both ends of a cable that is a process' own, and wants the verdict,
// the exit code and the port free for others afterwards.
func TestCableTestCommand(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "orscore")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/orscore").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cfg := Config{A: filepath.Join(dir, "a"), B: filepath.Join(dir, "b"), Baud: 115200, Control: filepath.Join(dir, "ctl")}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, cfg) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	wait, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := Await(wait, cfg.Control); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		fault string
		want  [2]cabletest.Verdict
		exit  [2]int
	}{
		{"mend", [2]cabletest.Verdict{cabletest.Good, cabletest.Good}, [2]int{0, 0}},
		{"oneway b>a", [2]cabletest.Verdict{cabletest.OneWay, cabletest.Silent}, [2]int{5, 5}},
		{"loopback", [2]cabletest.Verdict{cabletest.Loopback, cabletest.Loopback}, [2]int{5, 5}},
	} {
		if _, err := Command(ctx, cfg.Control, "mend"); err != nil {
			t.Fatal(err)
		}
		if _, err := Command(ctx, cfg.Control, tt.fault); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for e, device := range []string{cfg.A, cfg.B} {
			wg.Go(func() {
				cmd := exec.CommandContext(ctx, program, "cable", "test", "--device", device, "--wait", "4s", "--time", "2s", "--json")
				out, err := cmd.Output()
				code := 0
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					code = exit.ExitCode()
				} else if err != nil {
					t.Error(err)
				}
				var r struct {
					Verdict cabletest.Verdict `json:"verdict"`
					Device  string            `json:"device"`
				}
				if err := json.Unmarshal(out, &r); err != nil || r.Verdict != tt.want[e] || code != tt.exit[e] || r.Device != device {
					t.Errorf("%s, end %v: exit code %d, %v, %s; want %s", tt.fault, End(e), code, err, out, tt.want[e])
				}
			})
		}
		wg.Wait()
	}
	p, err := serial.Open(cfg.A, 115200)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := exec.CommandContext(ctx, program, "cable", "test", "--device", cfg.A).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "ORS-7030") || !strings.Contains(string(out), "in use by another program") {
		t.Errorf("a port that an agent holds: %v, %s", err, out)
	}
}
