package domino

import (
	"os"
	"slices"
	"strings"
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

// TestUserOfItsOwn: two servers with one user under two names are refused where the names can be looked up.
func TestUserOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a program as somebody else")
	}
	for second, want := range map[string]int{"1": 1, "daemon": 0, "2": 0, "nobody-of-that-name": 0} { // daemon has number 1
		one, two := server{partition: partition{Name: apollo, User: "daemon"}}, server{index: 1}
		two.Name, two.User = apollo2, second
		a := &application{servers: []server{one}, pair: []server{one, two}}
		var f findings
		a.userReady(&f, one)
		if len(f) != want || want > 0 && !strings.Contains(f[0].Summary, "are the same one, number 1") {
			t.Errorf("daemon and %s: %+v", second, f)
		}
	}
}
