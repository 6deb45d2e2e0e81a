// Package netnstest gives tests names for network namespaces, and removes what has such a name when the test ends,
// also when its process is killed.
//
// It must never remove a namespace that another process's test has made, and is for tests only.
package netnstest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var count atomic.Int64

// janitor waits until the other end of its standard input is closed, by a test that ends or by the kernel for a process
// that was killed. It prints what it could not do.
const janitor = `
read -r _
for ns in /run/netns/"$1"*; do
  [ ! -e "$ns" ] || ip netns del "${ns##*/}"
done`

// endWithin bounds the removal of a test's namespaces.
const endWithin = 20 * time.Second

// Prefix returns what the names of the test's namespaces have to begin with. All that do are removed when the test and
// its later clean-ups have ended.
func Prefix(t testing.TB) string {
	t.Helper()
	prefix := fmt.Sprintf("ors%d-%d-%d-", os.Getpid(), time.Now().Unix()%1e6, count.Add(1))
	life, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// no child of this process, nor in its group
	c := exec.Command("setsid", "--fork", "sh", "-c", janitor, "janitor", prefix)
	c.Stdin, c.Stdout, c.Stderr = life, says, says
	err = c.Run()
	_, _ = life.Close(), says.Close()
	if err != nil {
		t.Fatalf("start the janitor of network namespaces: %v", err)
	}
	t.Cleanup(func() {
		_ = hold.Close()
		_ = said.SetReadDeadline(time.Now().Add(endWithin))
		out, err := io.ReadAll(said)
		_ = said.Close()
		if err != nil || len(out) > 0 {
			t.Errorf("remove the namespaces %s*: %v %s", prefix, err, strings.TrimSpace(string(out)))
		}
	})
	return prefix
}
