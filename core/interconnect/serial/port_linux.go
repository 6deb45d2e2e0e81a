package serial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// closeMax bounds the wait for the kernel to close a port; a driver may take up to 30 s for what it could not send.
const closeMax = time.Second

type linuxPort struct {
	file *os.File
	raw  rawConn
}

// rawConn is the part of syscall.RawConn that is used: the descriptor is never taken out, for that would undo the
// deadlines.
type rawConn interface {
	Control(func(fd uintptr)) error
}

// openPort opens device alone for this process, and sets speed and mode.
func openPort(device string, baud int) (_ Port, err error) {
	file, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, plain(err)
	}
	p := &linuxPort{file: file}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.raw, err = file.SyscallConn(); err != nil {
		return nil, err
	}
	if err := file.SetDeadline(time.Now().Add(stalledMax)); err != nil {
		return nil, fmt.Errorf("no serial port: %w", err)
	}
	// Root may open a port in spite of TIOCEXCL, so the file is locked, too.
	if err := p.control(func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("in use by another program, which has locked it")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := setMode(device, baud); err != nil {
		return nil, err
	}
	return p, p.control(prepare)
}

// setMode has the library set the terminal that both descriptors share, and lets its own descriptor go again.
func setMode(device string, baud int) error {
	mode := &serial.Mode{BaudRate: baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit}
	s, err := serial.Open(device, mode)
	if err != nil {
		return fmt.Errorf("set %d baud, 8N1: %w", baud, err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("set %d baud, 8N1: %w", baud, err)
	}
	return nil
}

// prepare takes the port exclusively, and throws away what was received before. It leaves the modem lines up when
// the port is closed: an agent that died must not look like a server without power.
func prepare(fd int) error {
	if !isPty(fd) {
		if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
			return fmt.Errorf("take exclusively: %w", err)
		}
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read the mode: %w", err)
	}
	t.Cflag &^= unix.HUPCL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("keep the modem lines up: %w", err)
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
}

// isPty tells a pseudo-terminal, whose exclusive mode would outlive an agent that was killed for as long as anybody
// else holds the terminal: only the lock on the file is taken there. The numbers are those of Unix98 slaves
// (linux/major.h).
func isPty(fd int) bool {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false
	}
	major := unix.Major(uint64(st.Rdev))
	return major >= 136 && major <= 143
}

func (p *linuxPort) control(f func(fd int) error) error {
	var err error
	if e := p.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

func (p *linuxPort) Read(b []byte) (int, error) {
	if err := p.file.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return 0, plain(err)
	}
	n, err := p.file.Read(b)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil
	case errors.Is(err, io.EOF):
		return 0, errors.New("the port has hung up")
	}
	return 0, plain(err)
}

func (p *linuxPort) Write(b []byte) (int, error) {
	if err := p.file.SetWriteDeadline(time.Now().Add(stalledMax)); err != nil {
		return 0, plain(err)
	}
	n, err := p.file.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, fmt.Errorf("the line took nothing for %v", stalledMax)
	}
	return n, plain(err)
}

// Close drops what was not sent, for a driver may wait for it, and hands the descriptor back. The goroutine ends
// when the kernel has closed it, however long that takes.
func (p *linuxPort) Close() {
	if p.raw != nil {
		_ = p.control(func(fd int) error {
			_ = unix.Flock(fd, unix.LOCK_UN)
			_ = unix.IoctlSetInt(fd, unix.TIOCNXCL, 0)
			return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH)
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = p.file.Close() }()
	select {
	case <-done:
	case <-time.After(closeMax):
	}
}

// Lines reads the modem lines that the far end drives.
func (p *linuxPort) Lines() Lines {
	var bits int
	err := p.control(func(fd int) (err error) {
		bits, err = unix.IoctlGetInt(fd, unix.TIOCMGET)
		return err
	})
	if err != nil {
		return Lines{}
	}
	return Lines{
		Exist: true, CTS: bits&unix.TIOCM_CTS != 0, DSR: bits&unix.TIOCM_DSR != 0, DCD: bits&unix.TIOCM_CD != 0,
		RI: bits&unix.TIOCM_RI != 0,
	}
}

func (p *linuxPort) Raise(up bool) error {
	request := uint(unix.TIOCMBIC)
	if up {
		request = unix.TIOCMBIS
	}
	return p.control(func(fd int) error { return unix.IoctlSetPointerInt(fd, request, unix.TIOCM_DTR|unix.TIOCM_RTS) })
}

// icounter is struct serial_icounter_struct of linux/serial.h.
type icounter struct {
	_                         [6]int32 // changes of lines, bytes
	frame, overrun, parity, _ int32
	bufferOverrun             int32
	_                         [9]int32
}

// errorCounts asks the driver. The counts are since the system's start and wrap around.
func (p *linuxPort) errorCounts() (errorCounts, bool) {
	var c icounter
	err := p.control(func(fd int) error {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGICOUNT, uintptr(unsafe.Pointer(&c)))
		if no != 0 {
			return no
		}
		return nil
	})
	return errorCounts{
		frame: uint32(c.frame), overrun: uint32(c.overrun) + uint32(c.bufferOverrun), parity: uint32(c.parity),
	}, err == nil
}

// moved says whether path leads to another device than the one that is open: an adapter that was plugged in elsewhere.
// A path that leads nowhere is no proof; a device that is gone hangs up.
func (p *linuxPort) moved(path string) bool {
	var now, open unix.Stat_t
	if unix.Stat(path, &now) != nil || p.control(func(fd int) error { return unix.Fstat(fd, &open) }) != nil {
		return false
	}
	return now.Rdev != open.Rdev || now.Dev != open.Dev || now.Ino != open.Ino
}

// plain takes the path out of an error: whoever reports it names the device.
func plain(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
