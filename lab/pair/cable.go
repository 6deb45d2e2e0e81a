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

	nullmodem "github.com/orscore/ors/lab/cable"
)

// cable is the null-modem cable between the servers: end a is the first server's, b the second's.
type cable struct{ cfg nullmodem.Config }

// end returns the device of a server's end, emptied of what came while the server had no power.
func (c *cable) end(p *Pair, name string) (string, error) {
	link, which := c.cfg.A, "a"
	if p.Setup.Servers[0].Name != name {
		link, which = c.cfg.B, "b"
	}
	if _, err := nullmodem.Command(context.Background(), c.cfg.Control, "flush "+which); err != nil {
		return "", err
	}
	return os.Readlink(link)
}

// startCable starts the cable, a process of its own.
func (p *Pair) startCable(ctx context.Context) error {
	if p.Setup.Baud == 0 {
		return nil
	}
	cfg := nullmodem.Config{
		A: filepath.Join(p.dir.path, "cable.a"), B: filepath.Join(p.dir.path, "cable.b"),
		Baud: p.Setup.Baud, Control: filepath.Join(p.dir.path, "cable.sock"),
	}
	if _, err := p.start("cable", "cable", "--a", cfg.A, "--b", cfg.B, "--baud", strconv.Itoa(cfg.Baud),
		"--control", cfg.Control); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := nullmodem.Await(ctx, cfg.Control); err != nil {
		said, _ := os.ReadFile(filepath.Join(p.dir.path, "cable.log"))
		return fmt.Errorf("%w; its log: %s", err, said)
	}
	p.cable = &cable{cfg: cfg}
	return nil
}

// SetCable changes the cable by one of its commands, such as "cut" or "drop 0.1".
func (p *Pair) SetCable(words ...string) error {
	if p.cable == nil {
		return errors.New("this lab has no cable; the scenario would say: cable 115200")
	}
	_, err := nullmodem.Command(context.Background(), p.cable.cfg.Control, strings.Join(words, " "))
	return err
}
