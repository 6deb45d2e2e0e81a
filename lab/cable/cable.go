//go:build linux

// Package cable is a null-modem cable between two pseudo-terminals: what is written into one end comes out of the
// other, as fast as a serial line would carry it, and with the faults that cables have.
//
// It is for the lab. It must never be taken for a serial port with modem lines: a pseudo-terminal has none.
package cable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// End is one of the two ends: 0 is a, 1 is b.
type End int

// The ends.
const (
	A End = 0
	B End = 1
)

func (e End) String() string { return [...]string{"a", "b"}[e] }

// Faults are what is wrong with the cable. Index 0 is the direction from a to b, 1 from b to a.
type Faults struct {
	Cut      [2]bool
	Drop     float64 // probability that a byte is lost
	Garble   float64 // probability that one bit of a byte is turned
	Delay    time.Duration
	Loopback bool    // each end hears itself, as with a loopback plug
	Noise    float64 // probability that a bit is turned
	Speed    [2]int  // speed of each end's port when it is not the cable's; 0: it is
}

// Counts are the bytes that were taken and given in each direction.
type Counts struct{ In, Out [2]uint64 }

// Cable is a cable with both ends open. Run carries the bytes.
type Cable struct {
	baud int

	mu     sync.Mutex
	ends   [2]*pty   // nil: unplugged
	links  [2]string // symbolic links to the ends, "" for none
	faults Faults
	counts Counts
	rng    *rand.Rand
}

// pty is one end: the cable has the master, the agent opens the slave.
type pty struct {
	master *os.File
	slave  *os.File // kept open: a pty whose last slave is closed hangs up
	path   string
}

// Open makes both pseudo-terminals. baud is the speed in bits a second; a byte takes ten.
func Open(baud int) (*Cable, error) {
	if baud <= 0 {
		return nil, fmt.Errorf("cable: a speed of %d baud carries nothing", baud)
	}
	c := &Cable{baud: baud, rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))}
	for e := range c.ends {
		p, err := openPty()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cable: end %v: %w", End(e), err), c.Close())
		}
		c.ends[e] = p
	}
	return c, nil
}

func openPty() (*pty, error) {
	// Not blocking, so that Close ends a Read.
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	p := &pty{master: master}
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	var number int
	control := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(control, err); err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.path = "/dev/pts/" + strconv.Itoa(number)
	if p.slave, err = os.OpenFile(p.path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := rawMode(int(p.slave.Fd())); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// rawMode lets every byte pass as it is, as cfmakeraw(3) does: an agent that opens the port later sets the same.
func rawMode(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

func (p *pty) close() error {
	err := p.master.Close()
	if p.slave != nil {
		err = errors.Join(err, p.slave.Close())
	}
	return err
}

// Path is the device of an end.
func (c *Cable) Path(e End) string {
	if p := c.end(e); p != nil {
		return p.path
	}
	return ""
}

func (c *Cable) end(e End) *pty {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ends[e]
}

// Unplug takes the adapter of an end away: the port hangs up, and its link is gone.
func (c *Cable) Unplug(e End) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.ends[e]
	if p == nil {
		return nil
	}
	c.ends[e] = nil
	err := p.close()
	if l := c.links[e]; l != "" {
		err = errors.Join(err, os.Remove(l))
	}
	return err
}

// Plug brings the adapter of an end back. It is another device then; its link leads there.
func (c *Cable) Plug(e End) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends[e] != nil {
		return nil
	}
	p, err := openPty()
	if err != nil {
		return fmt.Errorf("cable: end %v: %w", e, err)
	}
	if l := c.links[e]; l != "" {
		if err := os.Symlink(p.path, l); err != nil {
			return errors.Join(fmt.Errorf("cable: %w", err), p.close())
		}
	}
	c.ends[e] = p
	return nil
}

// Close takes the cable away; both ends hang up.
func (c *Cable) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for e, p := range c.ends {
		if p != nil {
			err = errors.Join(err, p.close())
		}
		c.ends[e] = nil
	}
	return err
}

// Run carries bytes until ctx ends, and then takes the cable away.
func (c *Cable) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, from := range []End{A, B} {
		line := make(chan slice, 4096)
		wg.Add(2)
		go func() { defer wg.Done(); c.receive(ctx, from, line) }()
		go func() { defer wg.Done(); c.deliver(ctx, from, line) }()
	}
	<-ctx.Done()
	err := c.Close()
	wg.Wait()
	return err
}

// slice is some bytes on the line, and when the last of them is through.
type slice struct {
	at    time.Time
	to    End
	bytes []byte
}

// receive takes bytes from an end as fast as the line is, at most ten milliseconds' worth at a time, and puts them on
// the line.
func (c *Cable) receive(ctx context.Context, from End, line chan<- slice) {
	defer close(line)
	buf := make([]byte, max(1, c.baud/10/100))
	perByte := 10 * time.Second / time.Duration(c.baud)
	var free time.Time // when the line has carried what was put on it
	for {
		n := 0
		if p := c.end(from); p != nil {
			n, _ = p.master.Read(buf)
		}
		if ctx.Err() != nil {
			return
		}
		if n <= 0 {
			if !pause(ctx, 10*time.Millisecond) { // hung up for a moment, or unplugged: it comes back
				return
			}
			continue
		}
		if now := time.Now(); free.Before(now) {
			free = now
		}
		free = free.Add(time.Duration(n) * perByte)
		if s, ok := c.carry(from, buf[:n], free); ok {
			select {
			case line <- s:
			case <-ctx.Done():
				return
			}
		}
		if !pause(ctx, time.Until(free)) {
			return
		}
	}
}

// carry does to some bytes what the cable does to them.
func (c *Cable) carry(from End, b []byte, through time.Time) (slice, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.faults
	c.counts.In[from] += uint64(len(b))
	s := slice{at: through.Add(f.Delay), to: 1 - from}
	if f.Loopback {
		s.to = from
	}
	if f.Cut[from] {
		return s, false
	}
	if to, as := c.speed(s.to), c.speed(from); to != as {
		b = misread(b, as, to)
	}
	for _, x := range b {
		if f.Drop > 0 && c.rng.Float64() < f.Drop {
			continue
		}
		if f.Garble > 0 && c.rng.Float64() < f.Garble {
			x ^= 1 << c.rng.IntN(8)
		}
		for bit := range 8 {
			if f.Noise > 0 && c.rng.Float64() < f.Noise {
				x ^= 1 << bit
			}
		}
		s.bytes = append(s.bytes, x)
	}
	return s, len(s.bytes) > 0
}

// speed is that of an end's port. c.mu is held.
func (c *Cable) speed(e End) int {
	if s := c.faults.Speed[e]; s != 0 {
		return s
	}
	return c.baud
}

// deliver gives the bytes of a line out when they are through. A reader that does not take them loses them: a serial
// line has no memory.
func (c *Cable) deliver(ctx context.Context, from End, line <-chan slice) {
	for s := range line {
		if !pause(ctx, time.Until(s.at)) {
			continue // Run has ended: receive closes the line
		}
		p := c.end(s.to)
		if p == nil {
			continue
		}
		_ = p.master.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, _ := p.master.Write(s.bytes)
		c.mu.Lock()
		c.counts.Out[from] += uint64(max(0, n))
		c.mu.Unlock()
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Set changes the faults.
func (c *Cable) Set(change func(*Faults)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.faults)
}

// Flush throws away what an end has been given and nobody has read, as a port does when its server is switched on.
func (c *Cable) Flush(e End) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends[e] == nil {
		return nil
	}
	return unix.IoctlSetInt(int(c.ends[e].slave.Fd()), unix.TCFLSH, unix.TCIOFLUSH)
}

// Status says in one line how the cable is.
func (c *Cable) Status() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.faults
	return fmt.Sprintf("baud %d cut a>b %v b>a %v drop %g garble %g delay %v loopback %v noise %g speed %d %d "+
		"bytes a>b %d/%d b>a %d/%d",
		c.baud, f.Cut[A], f.Cut[B], f.Drop, f.Garble, f.Delay, f.Loopback, f.Noise, c.speed(A), c.speed(B),
		c.counts.Out[A], c.counts.In[A], c.counts.Out[B], c.counts.In[B])
}

// Commands are what Do understands.
const Commands = "cut, mend, oneway a>b|b>a, drop P, garble P, noise P, speed a=BAUD|b=BAUD, delay TIME, loopback, " +
	"unplug a|b, plug a|b, flush a|b, status"

// Do carries out one command in words and returns what it says. "oneway a>b" leaves only that direction.
func (c *Cable) Do(line string) (string, error) {
	words := strings.Fields(line)
	arg := ""
	if len(words) == 2 {
		arg = words[1]
	}
	wrong := fmt.Errorf("cable: %q is no command; known are: %s", line, Commands)
	if len(words) == 0 || len(words) > 2 {
		return "", wrong
	}
	if arg != "" && slices.Contains([]string{"cut", "mend", "loopback", "status"}, words[0]) {
		return "", wrong
	}
	switch words[0] {
	case "cut":
		c.Set(func(f *Faults) { f.Cut = [2]bool{true, true} })
	case "mend":
		c.Set(func(f *Faults) { *f = Faults{} })
		if err := errors.Join(c.Plug(A), c.Plug(B)); err != nil {
			return "", err
		}
	case "loopback":
		c.Set(func(f *Faults) { f.Loopback = true })
	case "status":
		return c.Status(), nil
	case "oneway":
		if arg != "a>b" && arg != "b>a" {
			return "", wrong
		}
		c.Set(func(f *Faults) { f.Cut = [2]bool{arg != "a>b", arg != "b>a"} })
	case "speed":
		end, n, _ := strings.Cut(arg, "=")
		baud, err := strconv.Atoi(n)
		if err != nil || baud <= 0 || end != "a" && end != "b" {
			return "", wrong
		}
		c.Set(func(f *Faults) { f.Speed[map[string]End{"a": A, "b": B}[end]] = baud })
	case "drop", "garble", "noise":
		p, err := strconv.ParseFloat(arg, 64)
		if err != nil || p < 0 || p > 1 {
			return "", fmt.Errorf("cable: %q: a probability is a number from 0 to 1", line)
		}
		c.Set(func(f *Faults) {
			*map[string]*float64{"drop": &f.Drop, "garble": &f.Garble, "noise": &f.Noise}[words[0]] = p
		})
	case "delay":
		d, err := time.ParseDuration(arg)
		if err != nil || d < 0 {
			return "", fmt.Errorf("cable: %q: a delay is a time such as 20ms", line)
		}
		c.Set(func(f *Faults) { f.Delay = d })
	case "flush", "unplug", "plug":
		do := map[string]func(End) error{"flush": c.Flush, "unplug": c.Unplug, "plug": c.Plug}[words[0]]
		for _, e := range []End{A, B} {
			if arg == e.String() {
				return c.Status(), do(e)
			}
		}
		return "", wrong
	default:
		return "", wrong
	}
	return c.Status(), nil
}
