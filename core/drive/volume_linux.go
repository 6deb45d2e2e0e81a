package drive

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// blockSize is what is read of a device past its caches: a multiple of every logical block size in use.
const blockSize = 4096

// devicePatience is how long a block device may take to show its superblock while a label is looked for.
const devicePatience = 2 * time.Second

// volume is a block device, found.
type volume struct {
	path  string
	major uint32
	minor uint32
}

// is says whether a mount is one of this volume. btrfs mounts have a device number of their own, so their source is
// looked at.
func (v volume) is(mi *mountinfo.Info) bool {
	if v.major != 0 && uint32(mi.Major) == v.major && uint32(mi.Minor) == v.minor {
		return true
	}
	if mi.Source == v.path {
		return true
	}
	if mi.FSType != "btrfs" || v.major == 0 {
		return false
	}
	src, err := device(mi.Source)
	return err == nil && src.major == v.major && src.minor == v.minor
}

// resolve finds the block device of a Spec.Volume.
func resolve(name string) (volume, error) {
	kind, value, ok := strings.Cut(name, "=")
	switch {
	case ok && kind == "LABEL":
		return resolveTag("by-label", value, func(p probed) bool { return p.label == value })
	case ok && kind == "UUID":
		return resolveTag("by-uuid", value, func(p probed) bool { return strings.EqualFold(p.uuid, value) })
	case !filepath.IsAbs(name):
		return volume{}, &Error{Code: CodeVolume, Text: fmt.Sprintf("volume %q is not /dev/…, LABEL=… or UUID=…", name)}
	}
	return device(name)
}

func device(name string) (volume, error) {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return volume{}, &Error{Code: CodeVolume, Text: "volume " + name + " is not there", Next: "lsblk -f", Err: err}
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return volume{}, &Error{Code: CodeVolume, Text: "volume " + path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return volume{}, &Error{Code: CodeVolume, Text: "volume " + path + " is not a block device",
			Next: "for a folder, filesystem would be \"directory\""}
	}
	return volume{path: path, major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev)}, nil
}

// resolveTag finds a volume by label or UUID: in udev's folder, or, where there is no udev, by reading the superblocks
// (ext2 to ext4, xfs) of all block devices.
func resolveTag(dir, value string, match func(probed) bool) (volume, error) {
	if v, err := device(filepath.Join("/dev/disk", dir, udevName(value))); err == nil {
		return v, nil
	}
	parts, err := os.ReadFile("/proc/partitions")
	if err != nil {
		return volume{}, &Error{Code: CodeVolume, Text: "listing block devices", Err: err}
	}
	found, mute := searchDevices(string(parts), match)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		text := fmt.Sprintf("no volume with %s %q", dir[3:], value)
		if len(mute) > 0 {
			text += fmt.Sprintf("; %s did not answer", strings.Join(mute, ", "))
		}
		return volume{}, &Error{Code: CodeVolume, Text: text, Next: "lsblk -f"}
	}
	return volume{}, &Error{Code: CodeVolume, Next: "give the device's path, or give each volume a label of its own",
		Text: fmt.Sprintf("%d volumes have the %s %q: %s, %s", len(found), dir[3:], value, found[0].path, found[1].path)}
}

// searchDevices reads the superblocks of all block devices at once and says which match, and which did not answer: a
// device that hangs is another's as far as anybody knows, and keeps nobody from his own.
func searchDevices(partitions string, match func(probed) bool) (found []volume, mute []string) {
	type answer struct{ match, ok bool }
	var asked []volume
	var answers []chan answer
	for line := range strings.Lines(partitions) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] == "major" {
			continue
		}
		v, err := device("/dev/" + strings.ReplaceAll(f[3], "!", "/"))
		if err != nil {
			continue
		}
		c := make(chan answer, 1)
		asked, answers = append(asked, v), append(answers, c)
		go func() {
			yes, ok := within(devicePatience, func() bool {
				b, err := readBlock(v.path)
				return err == nil && match(probe(b))
			})
			c <- answer{yes, ok}
		}()
	}
	for i, v := range asked {
		switch a := <-answers[i]; {
		case !a.ok:
			mute = append(mute, v.path)
		case a.match:
			found = append(found, v)
		}
	}
	return found, mute
}

// udevName escapes a label as udev does in names below /dev/disk.
func udevName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', strings.ContainsRune("#+-.:=@_", r),
			n > 1 && r != utf8.RuneError:
			b.WriteString(s[i : i+n])
		default:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		}
		i += n
	}
	return b.String()
}

// probed is what a superblock says.
type probed struct {
	filesystem, label, uuid string
	journal                 bool
}

// probe reads a volume's first 4096 bytes. The offsets are those of struct ext4_super_block (at byte 1024) and of
// xfs_dsb.
func probe(b []byte) probed {
	text := func(f []byte) string { s, _, _ := bytes.Cut(f, []byte{0}); return string(s) }
	uuid := func(f []byte) string {
		h := hex.EncodeToString(f)
		return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	}
	switch {
	case len(b) < blockSize:
		return probed{}
	case string(b[:4]) == "XFSB":
		return probed{"xfs", text(b[108:120]), uuid(b[32:48]), true}
	case binary.LittleEndian.Uint16(b[1024+0x38:]) == 0xEF53:
		sb := b[1024:]
		const hasJournal = 0x4
		return probed{"ext", text(sb[0x78:0x88]), uuid(sb[0x68:0x78]), binary.LittleEndian.Uint32(sb[0x5C:])&hasJournal != 0}
	}
	return probed{}
}

// readBlock reads a device's first block past all caches.
func readBlock(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(page) }() // the page is copied below
	n, err := unix.Pread(fd, page, 0)
	if err == nil && n != blockSize {
		err = fmt.Errorf("only %d bytes: %w", n, unix.EIO)
	}
	if err != nil {
		return nil, err
	}
	return bytes.Clone(page), nil
}

// freshen drops the pages that the kernel has cached of the device: another server wrote to it since.
func freshen(v volume) error {
	fd, err := unix.Open(v.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &Error{Code: CodeIO, Text: "opening " + v.path, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.BLKFLSBUF, 0); err != nil {
		return &Error{Code: CodeIO, Text: "dropping cached pages of " + v.path, Err: err}
	}
	return nil
}

// held says whether the kernel holds the device for a filesystem or a layer above, in whatever mount namespace.
func held(v volume) (bool, error) {
	fd, err := unix.Open(v.path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, unix.Close(fd)
}

// journalling filesystems repair themselves when they are mounted.
func journalling(filesystem string, p probed) bool {
	switch filesystem {
	case "ext3", "ext4":
		return p.journal
	case "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "ntfs3", "bcachefs", "zfs":
		return true
	}
	return false
}

// check runs the filesystem's checker by the Spec's policy; it repairs what is safe to repair. A checker that is not
// installed is an error where it was asked for, and a problem to tell of where it would only have been prudent.
func check(ctx context.Context, v volume, s Spec) (*Error, error) {
	if s.Fsck == "never" {
		return nil, nil
	}
	b, err := readBlock(v.path)
	if err != nil {
		return nil, &Error{Code: CodeIO, Text: "reading " + v.path, Next: "dmesg | tail", Err: err}
	}
	if s.Fsck == "auto" && journalling(s.Filesystem, probe(b)) {
		return nil, nil
	}
	program, err := lookup("fsck." + s.Filesystem)
	if err != nil {
		e := &Error{Code: CodeFsck, Text: "the checker fsck." + s.Filesystem + " is not installed, " + v.path +
			" is not checked", Err: err}
		if s.Fsck == "auto" {
			return e, nil
		}
		return nil, e
	}
	cmd := exec.CommandContext(ctx, program, "-p", v.path)
	cmd.Env = []string{"PATH=" + helperPath, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	const repaired, wantsReboot = 1, 2 // fsck(8); a reboot is for the root filesystem
	if code := cmd.ProcessState.ExitCode(); err != nil && code != repaired && code != wantsReboot &&
		code != repaired|wantsReboot {
		return nil, &Error{Code: CodeFsck, Text: fmt.Sprintf("%s -p %s: %s", program, v.path, lastLines(out)),
			Next: program + " " + v.path + " by hand, while the drive is not mounted", Err: err}
	}
	return nil, nil
}

func lookup(program string) (string, error) {
	for _, dir := range filepath.SplitList(helperPath) {
		p := filepath.Join(dir, program)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 && st.Mode().IsRegular() {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w in %s", program, fs.ErrNotExist, helperPath)
}

// lastLines shortens a checker's output.
func lastLines(out []byte) string {
	s := strings.TrimSpace(string(out))
	if len(s) > 400 {
		s = "… " + s[len(s)-400:]
	}
	return strings.Join(strings.Fields(s), " ")
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
