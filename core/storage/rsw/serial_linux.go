package rsw

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openSerial opens a serial port raw, at 8N1, for this process alone. The descriptor is non-blocking, so that writes
// have deadlines and Close ends a read under way.
func openSerial(path string, baud int) (stream, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = setSerial(int(fd), baud) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serial port %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Major numbers of pseudo-terminals' slaves (Documentation/admin-guide/devices.txt).
const firstPtyMajor, lastPtyMajor = 136, 143

// setSerial locks the port and sets its mode. TIOCEXCL keeps programs out that know no locks; root passes it, so
// there is an flock besides. On a pseudo-terminal it is left out: there the kernel keeps the flag until the last
// descriptor of the slave is closed, so an agent that was killed could not open the line again while its other end
// holds one. HUPCL is off so that an agent that ends does not drop the lines; old input is thrown away.
func setSerial(fd, baud int) error {
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another program holds its lock: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if major := unix.Major(st.Rdev); major < firstPtyMajor || major > lastPtyMajor {
		if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
			return fmt.Errorf("not a serial port, or not to be had alone: %w", err)
		}
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("reading its mode: %w", err)
	}
	t.Iflag = unix.IGNBRK | unix.IGNPAR
	t.Oflag, t.Lflag = 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.BOTHER
	t.Ispeed, t.Ospeed = uint32(baud), uint32(baud)
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS2, t); err != nil {
		return fmt.Errorf("setting %d baud, 8N1: %w", baud, err)
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH)
}
