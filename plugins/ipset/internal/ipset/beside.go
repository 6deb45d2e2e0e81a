package ipset

import (
	"fmt"

	"github.com/orscore/ors/plugins/ipset/internal/hosts"
)

// putHosts writes the names into the hosts file. That it does so is on record before.
func (a *application) putHosts(st *state) error {
	if st.HostsFile != a.set.hostsFile {
		if err := a.dropHosts(st); err != nil {
			return err
		}
		st.HostsFile = a.set.hostsFile
		if err := a.saveState(st); err != nil {
			return err
		}
	}
	if a.hostsWanting() == "" {
		return nil // and nobody waits for another program's lock
	}
	return hosts.Edit(a.set.hostsFile, func(b []byte) ([]byte, error) {
		return hosts.Put(b, a.owner(), a.set.hosts, hosts.NewLine())
	})
}

// dropHosts takes the names out of the hosts file that is on record, and of the configured one.
func (a *application) dropHosts(st *state) error {
	files := []string{a.set.hostsFile}
	if st != nil && st.HostsFile != a.set.hostsFile {
		files = append(files, st.HostsFile)
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		err := hosts.Edit(file, func(b []byte) ([]byte, error) { return hosts.Drop(b, a.owner()) })
		if err != nil {
			return err
		}
	}
	return nil
}

// hostsWanting says that the hosts file does not have the names; empty when it has, or need not.
func (a *application) hostsWanting() string {
	if len(a.set.hosts) == 0 {
		return ""
	}
	b, err := hosts.Read(a.set.hostsFile)
	if err != nil {
		return fmt.Sprintf("%v.", err)
	}
	if !hosts.Has(b, a.owner(), a.set.hosts) {
		return fmt.Sprintf("Hosts file %s does not have the names.", a.set.hostsFile)
	}
	return ""
}

// readyHosts reports what keeps the names from being written, or from being found.
func (a *application) readyHosts(found *findings) {
	if len(a.set.hosts) == 0 {
		return
	}
	at := "hosts[0]"
	if err := hosts.Writable(a.set.hostsFile); err != nil {
		found.add(at, "Make it writable for the agent, or leave hosts out.", "%v", err)
		return
	}
	b, err := hosts.Read(a.set.hostsFile)
	if err == nil {
		_, err = hosts.Put(b, a.owner(), a.set.hosts, hosts.NewLine())
	}
	if err != nil {
		found.add(at, "Mend the file by hand.", "hosts file %s: %v", a.set.hostsFile, err)
		return
	}
	for _, c := range hosts.Clashes(b, a.owner(), a.set.hosts) {
		found.warn(at, "Remove the name there: that line comes first, and wins.",
			"line %d of %s gives %s the address %s", c.Line, a.set.hostsFile, c.Name, c.Addr)
	}
}
