package domino

import (
	"os"
	"slices"
	"testing"
)

func TestReadIPC(t *testing.T) {
	// As the kernel prints them: names of columns, then numbers.
	shm := []byte("       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime\n" +
		"         0          7   600                  4096   101   101      0   500   500   500   500 1790000000\n" +
		"         0         12   600                  4096   102   102      1   501   500   500   500 1790000000\n" +
		"  16843009         13   600                  4096   102   102      1   500   500   501   500 1790000000\n")
	if got := readIPC(shm, 500); !slices.Equal(got, []int{7, 13}) {
		t.Errorf("shared memory of user 500: %v", got)
	}
	sem := []byte("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n" +
		"         0          3   600          1   500   500   500   500          0 1790000000\n")
	if got := readIPC(sem, 500); !slices.Equal(got, []int{3}) {
		t.Errorf("semaphores of user 500: %v", got)
	}
	if got := readIPC([]byte("something else\n1 2 500\n"), 500); len(got) > 0 {
		t.Errorf("a table that is none names %v", got)
	}
	// A user with a living process keeps what it has.
	if n, err := removeIPC(uint32(os.Getuid())); n != 0 {
		t.Errorf("%d pieces of this process's user were removed, %v", n, err)
	}
	if uid, ok := processUser(os.Getpid()); !ok || int(uid) != os.Getuid() {
		t.Errorf("this process is of user %d, %v", uid, ok)
	}
}
