package domino

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const supported = true

var errUnsupported = errors.New("Domino is protected on Linux only")

var (
	errNoSuchAddress error = unix.EADDRNOTAVAIL
	errRefused       error = unix.ECONNREFUSED
)

// mounted says whether a volume is mounted at dir.
func mounted(dir string) bool {
	var here, up unix.Stat_t
	if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Dir(dir), &up) != nil {
		return false
	}
	return here.Dev != up.Dev
}

func freeBytes(dir string) (uint64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}

func memoryBytes() (uint64, bool) {
	var in unix.Sysinfo_t
	if err := unix.Sysinfo(&in); err != nil {
		return 0, false
	}
	return uint64(in.Totalram) * uint64(in.Unit), true
}

// eachProcess calls do with the number of every process of this host that can be looked at.
func eachProcess(do func(pid int) (stop bool)) error {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, n := range names {
		pid, err := strconv.Atoi(filepath.Base(n))
		if err == nil && do(pid) {
			return nil
		}
	}
	return nil
}

// removeIPC removes the System V shared memory, semaphores and queues of a user of whom no process lives.
func removeIPC(uid uint32) (removed int, err error) {
	living := 0
	if err := eachProcess(func(pid int) bool {
		if owner, ok := processUser(pid); ok && owner == uid {
			living = pid
		}
		return living != 0
	}); err != nil {
		return 0, err
	}
	var errs []error
	for _, kind := range []struct {
		file string
		call uintptr
	}{{"shm", unix.SYS_SHMCTL}, {"sem", unix.SYS_SEMCTL}, {"msg", unix.SYS_MSGCTL}} {
		ids, err := ownedIPC("/proc/sysvipc/"+kind.file, uid)
		errs = append(errs, err)
		for _, id := range ids {
			if living != 0 {
				return removed, fmt.Errorf("process %d is of the same user", living)
			}
			if err := remove(kind.call, id); err != nil {
				errs = append(errs, fmt.Errorf("%s %d: %w", kind.file, id, err))
				continue
			}
			removed++
		}
	}
	return removed, errors.Join(errs...)
}

// remove is IPC_RMID: of semaphores it is the third argument, of the others the second.
func remove(call uintptr, id int) error {
	a, b := uintptr(unix.IPC_RMID), uintptr(0)
	if call == unix.SYS_SEMCTL {
		a, b = 0, unix.IPC_RMID
	}
	if _, _, errno := unix.Syscall(call, uintptr(id), a, b); errno != 0 && errno != unix.EINVAL && errno != unix.EIDRM {
		return errno
	}
	return nil
}

// processUser is the real user of a living process.
func processUser(pid int) (uint32, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	dead := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "State:" {
			dead = f[1] == "Z" || f[1] == "X"
		}
		if len(f) > 1 && f[0] == "Uid:" {
			n, err := strconv.ParseUint(f[1], 10, 32)
			return uint32(n), err == nil && !dead
		}
	}
	return 0, false
}

// ownedIPC reads a table of the kernel: its first line names the columns.
func ownedIPC(path string, uid uint32) ([]int, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readIPC(b, uid), nil
}

func readIPC(b []byte, uid uint32) []int {
	sc := bufio.NewScanner(bytes.NewReader(b))
	idAt, uidAt := -1, -1
	var ids []int
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if idAt < 0 || uidAt < 0 {
			for i, name := range f {
				switch name {
				case "shmid", "semid", "msqid":
					idAt = i
				case "uid":
					uidAt = i
				}
			}
			continue
		}
		if len(f) <= max(idAt, uidAt) || f[uidAt] != strconv.FormatUint(uint64(uid), 10) {
			continue
		}
		if id, err := strconv.Atoi(f[idAt]); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
