//go:build linux

package proc

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, in string
		want     Stat
		wrong    bool
	}{
		{name: "plain", in: "7 (sh) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0",
			want: Stat{PID: 7, PPID: 1, Comm: "sh", State: 'S', Start: 4711}},
		{name: "parentheses and spaces in the command", in: "7 (a) R (b) Z 3 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 12 0 0",
			want: Stat{PID: 7, PPID: 3, Comm: "a) R (b", State: 'Z', Start: 12}},
		{name: "no command", in: "7 S 1", wrong: true},
		{name: "short", in: "7 (sh) S 1 7", wrong: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat(7, tt.in)
			if (err != nil) != tt.wrong || got != tt.want {
				t.Errorf("got %+v, %v; want %+v, error %v", got, err, tt.want, tt.wrong)
			}
		})
	}
}

func TestEndOnlyTheRecordedProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]Identity{
		"another start": {PID: id.PID, Start: id.Start + 1, Boot: id.Boot},
		"another boot":  {PID: id.PID, Start: id.Start, Boot: "x"},
	} {
		if err := other.Signal(9); !errors.Is(err, ErrGone) {
			t.Errorf("%s: got %v, want ErrGone", name, err)
		}
	}
	if !id.Alive() {
		t.Fatal("the process was signalled through a wrong identity")
	}
	if err := id.End(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	<-done
	if id.Alive() {
		t.Error("alive after its end")
	}
	if err := id.End(0); err != nil {
		t.Errorf("ending it again: %v", err)
	}
	if self, err := Identify(os.Getpid()); err != nil || !self.Alive() {
		t.Errorf("this process: %+v, %v", self, err)
	}
}
