package sim

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

// chanceReader makes nonces of a seed's chance.
type chanceReader struct{ r *rand.Rand }

func (c chanceReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.r.Uint32())
	}
	return len(p), nil
}

// failbackDelay of groups that go home by themselves.
const failbackDelay = 20 * time.Second

func simulatedKey() []byte {
	key := sha256.Sum256([]byte("a key of a simulated pair"))
	return key[:]
}

// pairConfig is what config.Load would return for a file of this pair.
func pairConfig(p *Pair, self failover.Server) (*config.Config, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	c := &config.Config{
		Path: "simulated", Digest: sha256.Sum256(raw), Self: self,
		Pair:    config.Pair{Name: "simulated", Mode: "online", OnShutdown: "stay"},
		Servers: [2]config.Server{{Name: "rocky"}, {Name: "apollo"}},
		Interconnect: config.Interconnect{
			Interval: p.Interval.of(), Timeout: p.Timeout.of(), StartupTimeout: p.Startup.of(), Key: simulatedKey(),
		},
		Arbitration: config.Arbitration{Survivor: failover.Server(p.Survivor), Delay: p.Delay.of()},
	}
	if p.Moves {
		c.Pair.OnShutdown = "switchover"
	}
	for i, kind := range p.Links {
		switch kind {
		case "serial":
			c.Interconnect.Serial = append(c.Interconnect.Serial, config.SerialLink{Name: linkName(i), Baud: 115200})
		case "udp":
			c.Interconnect.UDP = append(c.Interconnect.UDP, config.UDPLink{Name: linkName(i)})
		default:
			return nil, fmt.Errorf("link %d is of kind %q: serial or udp would be right", i, kind)
		}
	}
	for g, primary := range p.Primary {
		c.Groups = append(c.Groups, config.Group{
			Name: groupName(g), Primary: failover.Server(primary), RestartLimit: p.Restarts, RestartReset: 10 * time.Minute,
			Failback: p.Automatic, FailbackDelay: failbackDelay, FlapLimit: p.Flap, FlapWindow: time.Hour,
			Applications: []config.Application{{
				Kind: "sim", Name: "app", StartTimeout: 20 * time.Second, StopTimeout: 10 * time.Second,
				Probe: config.Probe{Interval: p.Probe.of(), Timeout: p.Probe.of(), Fall: 3},
			}},
		})
	}
	for u, g := range p.Units {
		if u > 0 && g < p.Units[u-1] || g >= len(p.Primary) {
			return nil, fmt.Errorf("unit %d is of group %d: units come in the order of their groups", u, g)
		}
		c.Groups[g].Storage = append(c.Groups[g].Storage, config.StorageUnit{
			Name:   fmt.Sprintf("unit%d", u),
			Drives: []config.Drive{{Letter: string(rune('E'+u)) + ":", Volume: "sim", MountTimeout: 10 * time.Second}},
		})
	}
	return c, nil
}
