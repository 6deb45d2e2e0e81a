package drive

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// inNamespace marks the test process that has a mount namespace of its own.
const inNamespace = "ORS_TEST_NAMESPACE"

// TestMain runs the tests of root in a mount namespace of their own, so that no mount of theirs outlives them.
func TestMain(m *testing.M) {
	if os.Getuid() == 0 && os.Getenv(inNamespace) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		runtime.LockOSThread() // the signal comes when this thread ends
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "no mount namespace to be had:", err)
			os.Exit(1)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	}
	if os.Getuid() == 0 {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mounts cannot be made private:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}
