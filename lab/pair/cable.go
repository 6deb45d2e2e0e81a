//go:build linux

package pair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/orscore/ors/lab/cable"
)

func (p *Pair) cablePath(name string) string { return filepath.Join(p.dir.path, "cable", name) }

// cableEnd is "a" for the first server and "b" for the second.
func (p *Pair) cableEnd(server string) string {
	if server == p.Setup.Servers[0].Name {
		return "a"
	}
	return "b"
}

// startCable starts the cable as a process of its own, which holds both ends open for as long as the lab lives.
func (p *Pair) startCable(ctx context.Context) error {
	if p.Setup.Baud == 0 {
		return nil
	}
	if err := os.MkdirAll(p.cablePath(""), 0o755); err != nil {
		return err
	}
	if _, err := p.start("cable", "cable", "--a", p.cablePath("a"), "--b", p.cablePath("b"),
		"--baud", strconv.Itoa(p.Setup.Baud), "--control", p.cablePath("control")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := cable.Await(ctx, p.cablePath("control")); err != nil {
		log, _ := os.ReadFile(filepath.Join(p.dir.path, "cable.log"))
		return fmt.Errorf("%w; its log: %s", err, log)
	}
	return nil
}

// plugCable returns the device of a server's end, which is empty as the port of a machine that was just switched on.
func (p *Pair) plugCable(ctx context.Context, server string) (string, error) {
	end := p.cableEnd(server)
	if _, err := cable.Command(ctx, p.cablePath("control"), "flush "+end); err != nil {
		return "", err
	}
	return os.Readlink(p.cablePath(end))
}

// Cable gives the cable a command: cut, mend, and what else cable.Commands lists.
func (p *Pair) Cable(ctx context.Context, words ...string) error {
	if p.Setup.Baud == 0 {
		return errors.New("this lab has no cable; right would be a line before the first phase: cable 115200")
	}
	_, err := cable.Command(ctx, p.cablePath("control"), strings.Join(words, " "))
	return err
}
