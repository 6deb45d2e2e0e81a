package peerpid

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

const serveVariable = "PEERPID_TEST_SOCKET"

// TestMain is the server of another process, too.
func TestMain(m *testing.M) {
	path := os.Getenv(serveVariable)
	if path == "" {
		os.Exit(m.Run())
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	panic(serve(l))
}

func serve(l net.Listener) error {
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	return s.Serve(l)
}

// ask calls the server behind a socket, if want listens there, and returns who answered.
func ask(t *testing.T, target string, want int) (Info, error) {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(Credentials(func() int { return want })))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var who peer.Peer
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&who))
	info, _ := who.AuthInfo.(Info)
	return info, err
}

func TestOneProcessOnly(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"="+socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the server does not listen")
		}
	}
	pid := cmd.Process.Pid
	if info, err := ask(t, "unix:"+socket, pid); err != nil || info.PID != pid {
		t.Errorf("process %d is answered by %+v: %v", pid, info, err)
	}
	for _, want := range []int{0, os.Getpid(), 1} {
		if _, err := ask(t, "unix:"+socket, want); err == nil || !strings.Contains(err.Error(), "listens on the socket") {
			t.Errorf("process %d answered for %d: %v", pid, want, err)
		}
	}
}

func TestNoNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	defer func() {
		_ = l.Close()
		<-done
	}()
	_, err = ask(t, "passthrough:///"+l.Addr().String(), os.Getpid())
	if err == nil || !strings.Contains(err.Error(), "a connection of tcp has no process") {
		t.Errorf("a network's answer: %v", err)
	}
}
