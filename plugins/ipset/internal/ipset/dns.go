package ipset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/plugins/ipset/internal/dnsupdate"
	"github.com/orscore/ors/plugins/ipset/internal/hosts"
	"github.com/orscore/ors/plugins/sdk"
)

// dnsConfig is a block of names in a zone.
type dnsConfig struct {
	Zone    string   `json:"zone"`
	Server  string   `json:"server"`
	Names   []string `json:"names"`
	TTL     string   `json:"ttl"`
	KeyFile string   `json:"key_file"`
	Remove  bool     `json:"remove"`
}

var dnsBlock = sdk.Block{
	Name: "dns", Labels: []string{"zone"},
	Body: sdk.Schema{
		Description: "Names of a zone that lead to the addresses, kept by dynamic updates (RFC 2136).",
		Attributes: []sdk.Attribute{
			{
				Name: "server", Type: "string", Required: true,
				Description: "Address of the zone's primary name server, with a port if it is not 53.",
			},
			{
				Name: "names", Type: "list(string)", Required: true,
				Description: "Names in the zone: \"rocky\" is rocky.ZONE, \"@\" is the zone itself.",
			},
			{
				Name: "ttl", Type: "string", Default: `"30s"`,
				Description: "How long others may keep an answer, in whole seconds.",
			},
			{
				Name: "key_file", Type: "string", Default: `""`,
				Description: "File with the key that signs updates, as tsig-keygen writes it, for the agent's user alone; empty: " +
					"they are not signed.",
			},
			{
				Name: "remove", Type: "bool", Default: "false",
				Description: "Take the addresses out of the zone when they are given up here. Left false, they stay until the " +
					"partner replaces them, and no client is told that there is no such name.",
			},
		},
	},
}

// dnsSettings is a checked dnsConfig.
type dnsSettings struct {
	update  dnsupdate.Update // without its key, which is read when it is used
	keyFile string
	remove  bool
}

const (
	mostTTL      = 24 * time.Hour
	dnsPause     = time.Second // after a first failure; it doubles
	mostDNSPause = time.Minute
	dnsEnd       = 4 * time.Second // a stop waits no longer than this for a zone
)

func (c config) checkDNS(s *settings, found *findings) {
	for i, d := range c.DNS {
		at := fmt.Sprintf("dns[%d]", i)
		zone := strings.ToLower(strings.TrimSuffix(d.Zone, "."))
		if err := hosts.CheckName(zone); err != nil {
			found.add(at, `Write dns "testlab.com" {.`, "%q is no name of a zone: %v", d.Zone, err)
			continue
		}
		one := dnsSettings{keyFile: d.KeyFile, remove: d.Remove}
		one.update.Zone = zone + "."
		one.update.Server = d.checkServer(found, at)
		one.update.Names = d.checkNames(found, at, zone)
		ttl, err := time.ParseDuration(d.TTL)
		if err != nil || ttl < time.Second || ttl > mostTTL || ttl%time.Second != 0 {
			found.add(at+".ttl", `Use whole seconds from "1s" to "24h", such as "30s".`, "%q is not a time to live", d.TTL)
		}
		one.update.TTL = ttl
		switch {
		case d.KeyFile == "":
			found.warn(at, "Make a key with tsig-keygen, and name its file in key_file.",
				"updates of zone %s are not signed: whoever can send from this address can change it", zone)
		case !filepath.IsAbs(d.KeyFile):
			found.add(at+".key_file", "Write the whole path.", "key file %q is not an absolute path", d.KeyFile)
		}
		for _, p := range s.addresses {
			one.update.Addrs = append(one.update.Addrs, p.Addr())
		}
		s.dns = append(s.dns, one)
	}
}

func (d dnsConfig) checkServer(found *findings, at string) string {
	if a, err := netip.ParseAddr(d.Server); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a, 53).String()
	}
	if a, err := netip.ParseAddrPort(d.Server); err == nil && a.Port() != 0 {
		return a.String()
	}
	found.add(at+".server", `Write an address such as "172.25.36.46" or "[2001:db8::1]:5353": a name would need a name `+
		"server to be found.", "name server %q is not an address", d.Server)
	return ""
}

func (d dnsConfig) checkNames(found *findings, at, zone string) []string {
	if len(d.Names) == 0 {
		found.add(at+".names", `Write names = ["rocky"].`, "no name is given for zone %s", zone)
	}
	var out []string
	for i, name := range d.Names {
		full := strings.ToLower(strings.TrimSuffix(name, "."))
		switch {
		case name == "@":
			full = zone
		case full == zone || strings.HasSuffix(full, "."+zone):
		case strings.HasSuffix(name, "."):
			found.add(fmt.Sprintf("%s.names[%d]", at, i), "Name one of the zone's, or use another dns block.",
				"%s is not in zone %s", name, zone)
			continue
		default:
			full += "." + zone
		}
		if err := hosts.CheckName(full); err != nil {
			found.add(fmt.Sprintf("%s.names[%d]", at, i), `Write a name such as "rocky".`,
				"%q is no name in zone %s: %v", name, zone, err)
			continue
		}
		out = append(out, full+".")
	}
	return out
}

// keyed is the update with its key. The key is read each time, so that a new one is taken without a restart.
func (d dnsSettings) keyed() (dnsupdate.Update, error) {
	u := d.update
	var err error
	if d.keyFile != "" {
		u.Key, err = dnsupdate.ReadKey(d.keyFile)
	}
	return u, err
}

// dnsRecord is how an update of a zone went, in a file of the work folder: whoever asks, and a plugin that was started
// again, knows by it. Without a file, it has not been tried yet.
type dnsRecord struct {
	Update string `json:"update"` // what was to be in the zone
	Error  string `json:"error,omitempty"`
}

func (a *application) dnsFile(i int) string {
	return filepath.Join(a.in.WorkDir, fmt.Sprintf("dns-%d.json", i))
}

func (d dnsSettings) text() string {
	return fmt.Sprintf("%v in %s at %s are %v for %v", d.update.Names, d.update.Zone, d.update.Server, d.update.Addrs,
		d.update.TTL)
}

// forgetDNS makes all zones be updated anew.
func (a *application) forgetDNS() {
	for i := range a.set.dns {
		_ = os.Remove(a.dnsFile(i)) // where it stays, one update less is made
	}
}

// keepDNS updates one zone, again and again until it is done: the name server may have died with the partner.
func (a *application) keepDNS(ctx context.Context, i int) {
	d := a.set.dns[i]
	if a.dnsWanting(i) == "" {
		return
	}
	for pause := dnsPause; ; pause = min(2*pause, mostDNSPause) {
		u, err := d.keyed()
		if lease := a.in.Lease(); err == nil && lease.Ends() && lease.Left() <= 0 {
			err = errLeaseOver // the addresses may be the partner's by now, and the zone lead to its own
		}
		if err == nil {
			err = u.Put(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		rec := dnsRecord{Update: d.text()}
		if err != nil {
			rec.Error = err.Error()
			a.in.Log.Warn("the zone is not updated yet; it will be tried again", "zone", u.Zone, "error", err, "in", pause)
		}
		b, merr := json.Marshal(rec)
		if err := errors.Join(merr, os.WriteFile(a.dnsFile(i), b, 0o600)); err != nil {
			a.in.Log.Warn("it is not on record how the zone's update went", "zone", u.Zone, "error", err)
		}
		if err == nil {
			a.in.Log.Info("the zone is updated", "zone", u.Zone, "names", u.Names, "addresses", u.Addrs)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// dnsWanting says that a zone does not lead to the addresses yet; empty when it was seen to do.
func (a *application) dnsWanting(i int) string {
	d := a.set.dns[i]
	var rec dnsRecord
	b, err := os.ReadFile(a.dnsFile(i))
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	switch {
	case err != nil || rec.Update != d.text():
		return fmt.Sprintf("Zone %s is being updated.", d.update.Zone)
	case rec.Error != "":
		return rec.Error + "."
	}
	return ""
}

// removeDNS takes the addresses out of the zones where that is wanted, out of all at the same time: a name server that
// is dead takes none of the others' time. It is for a stop: after the loss of the group, the same addresses may be the
// partner's by now.
func (a *application) removeDNS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dnsEnd)
	defer cancel()
	errs := make([]error, len(a.set.dns))
	var wg sync.WaitGroup
	for i, d := range a.set.dns {
		if !d.remove {
			continue
		}
		wg.Go(func() {
			u, err := d.keyed()
			if err == nil {
				err = u.Remove(ctx)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// readyDNS looks at the keys. It asks no server: the partner may have just updated the zone.
func (a *application) readyDNS(found *findings) {
	for i, d := range a.set.dns {
		if _, err := d.keyed(); err != nil {
			found.add(fmt.Sprintf("dns[%d].key_file", i),
				"Make it with `tsig-keygen ors > FILE`, owned by the agent's user, with mode 0600.", "%v", err)
		}
	}
}
